package main

import (
	"context"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

// The example serves its metrics until its context ends, and leaves nothing running.
func TestExample(t *testing.T) {
	defer goleak.VerifyNone(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	out, in := io.Pipe()
	ended := make(chan error, 1)
	go func() { ended <- run(ctx, "127.0.0.1:0", in) }()
	said := make([]byte, 200)
	n, err := out.Read(said)
	url := regexp.MustCompile(`http://\S+`).FindString(string(said[:n]))
	if err != nil || url == "" {
		t.Fatalf("it says %q, %v", said[:n], err)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	resp.Body.Close()
	if err != nil || !strings.Contains(string(text), "\nleasehold_node_up{") {
		t.Errorf("it serves %q, %v", text, err)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
