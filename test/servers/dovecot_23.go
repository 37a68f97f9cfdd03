package servers

import "text/template"

var dovecot23 = &dialect{name: "Dovecot23", deploy: "dovecot-2.3", Template: template.Must(template.New("").Parse(`
{{define "common"}}
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
listen = {{.IP}}
protocols = imap pop3 submission sieve lmtp
{{with .TLS}}
ssl = yes
ssl_cert = <{{.CertFile}}
ssl_key = <{{.KeyFile}}
{{else}}
ssl = no
{{end}}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_chars =
mail_max_userip_connections = 0
# No penalty for wrong passwords: whole tests come from one machine.
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
# imap: one process for all logins; the others: one a login, Dovecot's default.
service imap-login {
  service_count = 0
  inet_listener imap {
    port = {{.Port.imap}}
  }
  inet_listener imaps {
    port = 0
  }
}
service pop3-login {
  inet_listener pop3 {
    port = {{.Port.pop3}}
  }
  inet_listener pop3s {
    port = 0
  }
}
service submission-login {
  inet_listener submission {
    port = {{.Port.submission}}
  }
}
service managesieve-login {
  inet_listener sieve {
    port = {{.Port.sieve}}
  }
}
{{end}}

{{define "doveadm and lmtp"}}
service lmtp {
  inet_listener lmtp {
    port = {{.Port.lmtp}}
  }
}
service doveadm {
  inet_listener {
    port = {{.Port.doveadm}}
  }
  inet_listener http {
    port = {{.Port.doveadm_http}}
  }
}
{{end}}

{{define "backend"}}
{{template "common" .}}
{{template "doveadm and lmtp" .}}
login_greeting = backend {{.IP}}
login_trusted_networks = 127.0.0.0/8
doveadm_password = ` + DoveadmPassword + `
doveadm_api_key = ` + DoveadmKey + `
postmaster_address = postmaster@example.org
submission_relay_host = {{.IP}}
submission_relay_port = {{.Relay}}
managesieve_implementation_string = mailbox on {{.IP}}
mail_location = maildir:~/Maildir
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = {{.Passwd}}
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home={{.Dir}}/mail/%u
}
{{end}}

{{define "services"}}
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
listen = {{.IP}}
protocols = imap pop3 submission sieve lmtp
ssl = yes
ssl_cert = <{{.TLS.CertFile}}
ssl_key = <{{.TLS.KeyFile}}
disable_plaintext_auth = no
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_chars =
mail_max_userip_connections = 0
haproxy_trusted_networks = 127.0.0.0/8
service imap-login {
  service_count = 0
  inet_listener imap {
    port = 0
  }
  inet_listener imaps {
    port = 0
  }
{{range .Listeners.imap}}  inet_listener imap-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service pop3-login {
  service_count = 0
  inet_listener pop3 {
    port = 0
  }
  inet_listener pop3s {
    port = 0
  }
{{range .Listeners.pop3}}  inet_listener pop3-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service submission-login {
  service_count = 0
  inet_listener submission {
    port = 0
  }
{{range .Listeners.submission}}  inet_listener submission-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service managesieve-login {
  service_count = 0
  inet_listener sieve {
    port = 0
  }
{{range .Listeners.sieve}}  inet_listener sieve-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service lmtp {
{{range .Listeners.lmtp}}  inet_listener lmtp-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service auth {
{{range .Listeners.auth}}  inet_listener auth-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
postmaster_address = postmaster@example.org
submission_relay_host = 127.0.0.1
submission_relay_port = {{.Relay}}
mail_location = maildir:~/Maildir
first_valid_uid = 1
passdb {
  driver = passwd-file
  args = {{.Passwd}}
}
userdb {
  driver = static
  args = uid=nobody gid=nogroup home={{.Dir}}/mail/%u
}
{{end}}

{{define "proxy"}}
{{template "common" .}}
!include usher.conf
passdb {
  driver = passwd-file
  args = {{.Passwd}}
  default_fields = proxy=y
}
userdb {
  driver = passwd-file
  args = {{.Passwd}}
  default_fields = uid=nobody gid=nogroup home=/nonexistent
}
{{end}}

{{define "auth"}}
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
protocols =
ssl = no
disable_plaintext_auth = no
auth_username_chars =
auth_mechanisms = plain login external
passdb {
  driver = passwd-file
  args = {{.Passwd}}
}
userdb {
  driver = passwd-file
  args = {{.Passwd}}
  default_fields = uid=nobody gid=nogroup home=/nonexistent
}
service auth {
  unix_listener auth-client {
    mode = 0666
  }
}
service anvil {
  unix_listener anvil-auth-penalty {
    mode = 0
  }
}
{{.Settings}}
{{end}}

{{define "site"}}
{{template "doveadm and lmtp" .}}
doveadm_password = ` + DoveadmPassword + `
doveadm_api_key = ` + DoveadmKey + `
service auth {
  unix_listener usher-userdb {
    user = root
  }
}
{{.Settings}}
{{end}}
`))}
