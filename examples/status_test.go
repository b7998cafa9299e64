package examples_test

import (
	"strings"
	"syscall"
	"testing"
)

// The page is there, shows what is held and ends with the process.
func TestStatus(t *testing.T) {
	t.Parallel()
	p := start(t, "status", "-listen", "127.0.0.1:0", "-calm")
	url := p.await(`^the page is (http://127\.0\.0\.1:\d+/leases/)$`)[1]
	until(t, "the process is ready", func() bool { _, code := get(t, url+"readyz"); return code == 200 })
	until(t, "it leads", func() bool { _, code := get(t, url+"leader/example-mailer"); return code == 200 })
	until(t, "the page has the lease", func() bool {
		body, code := get(t, url)
		return code == 200 && strings.Contains(body, "All is well: 5 of 5 nodes") && strings.Contains(body, " example-mailer\"")
	})
	p.signal(syscall.SIGTERM)
	p.await(`^done$`)
	if _, status := p.end(); status != 0 {
		t.Errorf("exit status %d", status)
	}
}
