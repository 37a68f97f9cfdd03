package test

import (
	"os"
	"testing"

	"usher/test/servers"
)

func TestMain(m *testing.M) { os.Exit(servers.Main(m)) }
