package servers

import "text/template"

var dovecot24 = &dialect{
	name:     "Dovecot24",
	deploy:   "dovecot-2.4",
	versions: "dovecot_config_version = 2.4.0\ndovecot_storage_version = 2.4.0",
	Template: template.Must(template.New("").Parse(`
{{define "common"}}
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
listen = {{.IP}}
protocols = imap pop3 submission sieve lmtp
{{with .TLS}}
ssl = yes
ssl_server_cert_file = {{.CertFile}}
ssl_server_key_file = {{.KeyFile}}
{{else}}
ssl = no
{{end}}
auth_allow_cleartext = yes
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
service imap-login {
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
  inet_listener doveadm {
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
mail_driver = maildir
mail_path = ~/Maildir
first_valid_uid = 1
passdb passwd-file {
  passwd_file_path = {{.Passwd}}
}
userdb static {
  fields {
    uid = nobody
    gid = nogroup
    home = {{.Dir}}/mail/%{user}
  }
}
{{end}}

{{define "services"}}
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
listen = {{.IP}}
protocols = imap pop3 submission sieve lmtp
ssl = yes
ssl_server_cert_file = {{.TLS.CertFile}}
ssl_server_key_file = {{.TLS.KeyFile}}
auth_allow_cleartext = yes
auth_mechanisms = plain login
auth_failure_delay = 0
auth_username_chars =
mail_max_userip_connections = 0
haproxy_trusted_networks = 127.0.0.0/8
service imap-login {
  restart_request_count = unlimited
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
  restart_request_count = unlimited
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
  restart_request_count = unlimited
  inet_listener submission {
    port = 0
  }
  inet_listener submissions {
    port = 0
  }
{{range .Listeners.submission}}  inet_listener submission-{{.Mode}} {
    port = {{.Port}}
    ssl = {{.TLS}}
    haproxy = {{.HAProxy}}
  }
{{end}}}
service managesieve-login {
  restart_request_count = unlimited
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
mail_driver = maildir
mail_path = ~/Maildir
first_valid_uid = 1
passdb passwd-file {
  passwd_file_path = {{.Passwd}}
}
userdb static {
  fields {
    uid = nobody
    gid = nogroup
    home = {{.Dir}}/mail/%{user}
  }
}
{{end}}

{{define "proxy"}}
{{template "common" .}}
!include usher.conf
passdb passwd-file {
  passwd_file_path = {{.Passwd}}
  fields {
    proxy = yes
  }
}
userdb passwd-file {
  passwd_file_path = {{.Passwd}}
  fields {
    uid = nobody
    gid = nogroup
    home = /nonexistent
  }
}
{{end}}

{{define "auth"}}
dovecot_config_version = 2.4.0
dovecot_storage_version = 2.4.0
base_dir = {{.Dir}}/run
state_dir = {{.Dir}}/state
instance_name = {{.Name}}
log_path = /dev/stderr
protocols =
ssl = no
auth_allow_cleartext = yes
auth_username_chars =
auth_mechanisms = plain login external
passdb passwd-file {
  passwd_file_path = {{.Passwd}}
}
userdb passwd-file {
  passwd_file_path = {{.Passwd}}
  fields {
    uid = nobody
    gid = nogroup
    home = /nonexistent
  }
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
`)),
}
