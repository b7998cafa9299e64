package node

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What a URL says of TLS and of Sentinels is an error if it cannot be so, which names the
// parameter and shows no password.
func TestSecurityInURLs(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "empty.pem")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for url, want := range map[string]string{
		"redis://h?cacert=/x":                                 "cacert without TLS: use rediss",
		"redis://h?sni=x":                                     "sni without TLS: use rediss",
		"rediss://h?cacert=/no/such/file":                     "cacert: open /no/such/file",
		"rediss://h?cacert=" + empty:                          "no certificate in PEM in this file",
		"rediss://h?cert=/x":                                  "cert and key: give both, or neither",
		"rediss://h?key=/x":                                   "cert and key: give both, or neither",
		"rediss://h?cert=" + empty + "&key=" + empty:          "cert ",
		"redis://h?sentinel_password=hunter2":                 "sentinel_password without master_set",
		"redis://h?sentinel_username=me":                      "sentinel_username without master_set",
		"rediss://h?sni=x":                                    "",
		"redis://h?master_set=m&sentinel_password=hunter2":    "",
		"rediss://h?master_set=m&sentinel_username=me&sni=db": "",
	} {
		c := URL(url)
		err := c.Err()
		if (want == "") != (err == nil) || err != nil && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2")) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
		if strings.Contains(c.String(), "hunter2") {
			t.Errorf("%s is shown as %v", url, c)
		}
	}
	o := URL("rediss://h:1?master_set=m&sentinel_username=me&sentinel_password=hunter2").opt
	if s := &o.Sentinel; s.TLSConfig == nil || s.TLSConfig.ServerName != "" || o.TLSConfig.ServerName != "" || s.Username != "me" || s.Password != "hunter2" {
		t.Errorf("Sentinels: TLS %v, user %q", s.TLSConfig != nil, s.Username)
	}
	if o := URL("rediss://h:1?sni=db").opt; o.TLSConfig.ServerName != "db" {
		t.Errorf("server name %q", o.TLSConfig.ServerName)
	}
	if o := URL("rediss://h:1").opt; o.TLSConfig.ServerName != "h" {
		t.Errorf("server name %q", o.TLSConfig.ServerName)
	}
}
