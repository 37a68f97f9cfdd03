package modules

// psnetModule is nauthilus_psnet, whose one function init scripts call.
var psnetModule = Module{
	Name: "nauthilus_psnet", Global: true,
	Doc: "Stands in for Nauthilus' watch over its network connections.",
	Funcs: []Func{{
		Name: "register_connection_target", Do: nothing,
		Sig: `(target: string, direction: string, description: string)`, Doc: "Does nothing.",
		Example: "local psnet = require(\"nauthilus_psnet\")\npsnet.register_connection_target(\"directory.example.org:443\", \"remote\", \"directory\")\nprint(\"registered\") --> registered",
	}},
}

// absentModule is a module of Nauthilus that is another trade than usher's. It is
// there, and empty, so that a script which requires it and has other uses loads.
func absentModule(name, what string) *Module {
	return &Module{Name: name, Global: true, Doc: "Empty: usher " + what + "."}
}

var (
	mailModule          = absentModule("nauthilus_mail", "sends no mail")
	ldapModule          = absentModule("nauthilus_ldap", "asks no LDAP server")
	softWhitelistModule = absentModule("nauthilus_soft_whitelist", "keeps no lists of trusted networks; see `usher.map` and `usher.cidr`")
	bruteForceModule    = absentModule("nauthilus_brute_force", "counts no wrong passwords")
)
