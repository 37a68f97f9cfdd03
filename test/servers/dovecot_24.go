package servers

import "text/template"

var dovecot24 = &dialect{name: "Dovecot24", deploy: "dovecot-2.4", Template: template.Must(template.New("").Parse(`
`))}
