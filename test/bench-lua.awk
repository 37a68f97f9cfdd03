# Makes the table of `make bench-lua` out of what `go test -bench` prints.
# Of several runs of one benchmark it takes the fastest: the machine's other work
# only ever adds.

/^Benchmark/ {
	name = $1
	sub(/^Benchmark/, "", name)
	sub(/-[0-9]+$/, "", name)
	if (!(name in seen)) {
		seen[name] = 1
		order[++n] = name
	}
	for (i = 3; i < NF; i += 2) {
		key = name SUBSEP $(i + 1)
		if (!(key in least) || $i + 0 < least[key])
			least[key] = $i + 0
	}
}

/^(FAIL|---|panic)/ { print; failed = 1 }

function value(name, unit) { return least[name SUBSEP unit] }

function heading(text) { printf "\n%-52s %10s %8s %8s\n", text, "ns", "bytes", "allocs" }

END {
	heading("one request")
	for (i = 1; i <= n; i++)
		if (order[i] ~ /^(Policy|NewState|Parallel)/)
			printf "%-52s %10.0f %8d %8d\n", order[i], value(order[i], "ns/op"), value(order[i], "B/op"), value(order[i], "allocs/op")

	heading("one call")
	none = "Function/call=nothing"
	for (i = 1; i <= n; i++)
		if (order[i] ~ /^Function/ && order[i] != none) {
			name = order[i]
			sub(/.*call=/, "", name)
			printf "%-52s %10.0f %8.0f %8.2f\n", name, (value(order[i], "ns/op") - value(none, "ns/op")) / 100,
				(value(order[i], "B/op") - value(none, "B/op")) / 100, (value(order[i], "allocs/op") - value(none, "allocs/op")) / 100
		}

	heading("until a bad name is refused")
	for (i = 1; i <= n; i++)
		if (order[i] ~ /^Hostile/) {
			name = order[i]
			sub(/.*name=/, "", name)
			printf "%-52s %10.0f\n", name, value(order[i], "ns/op")
		}

	printf "\nothers' wait, microseconds                                  p50      p99\n"
	for (bad = 0; bad <= 1; bad++)
		printf "%-52s %10.0f %8.0f\n", bad ? "one bad client in ten" : "none", value("BadClient/bad=" bad, "p50-µs"), value("BadClient/bad=" bad, "p99-µs")

	printf "\nratios\n"
	if (value("Policy/policy=naive", "ns/op"))
		printf "%-52s %10.2f\n", "typical / naive", value("Policy/policy=typical", "ns/op") / value("Policy/policy=naive", "ns/op")
	if (value("BadClient/bad=0", "p99-µs"))
		printf "%-52s %10.2f\n", "others' p99, one bad client in ten / none", value("BadClient/bad=1", "p99-µs") / value("BadClient/bad=0", "p99-µs")
	exit failed
}
