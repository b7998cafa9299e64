package node

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net/url"
	"os"

	"github.com/redis/rueidis"
)

// addSecurity adds what the parameters of a URL say about TLS and Sentinels, which the client
// library does not understand.
func addSecurity(o *rueidis.ClientOption, q url.Values) error {
	sentinels := o.Sentinel.MasterSet != ""
	for _, name := range []string{"sentinel_username", "sentinel_password"} {
		if q.Has(name) && !sentinels {
			return fmt.Errorf("%s without master_set: give both, or neither", name)
		}
	}
	o.Sentinel.Username, o.Sentinel.Password = q.Get("sentinel_username"), q.Get("sentinel_password")
	for _, name := range []string{"cacert", "cert", "key", "sni"} {
		if q.Has(name) && o.TLSConfig == nil {
			return fmt.Errorf("%s without TLS: use rediss instead of redis", name)
		}
	}
	if o.TLSConfig == nil {
		return nil
	}
	if file := q.Get("cacert"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("cacert: %w", err)
		}
		o.TLSConfig.RootCAs = x509.NewCertPool()
		if !o.TLSConfig.RootCAs.AppendCertsFromPEM(pem) {
			return fmt.Errorf("cacert %q: no certificate in PEM in this file", file)
		}
	}
	cert, key := q.Get("cert"), q.Get("key")
	if (cert == "") != (key == "") {
		return errors.New("cert and key: give both, or neither")
	}
	if cert != "" {
		pair, err := tls.LoadX509KeyPair(cert, key)
		if err != nil {
			return fmt.Errorf("cert %q, key %q: %w", cert, key, err)
		}
		o.TLSConfig.Certificates = []tls.Certificate{pair}
	}
	if sentinels {
		o.TLSConfig.ServerName = "" // each has the name by which it is dialled
	}
	if sni := q.Get("sni"); sni != "" {
		o.TLSConfig.ServerName = sni
	}
	if sentinels {
		o.Sentinel.TLSConfig = o.TLSConfig.Clone()
	}
	return nil
}
