package status_test

import (
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"

	"github.com/leasehold-go/leasehold/node/nodetest"
	"github.com/leasehold-go/leasehold/supervisor"
	"github.com/leasehold-go/leasehold/supervisor/status"
)

// A process serves the page of its supervisor beside its own addresses. Here a load balancer asks
// whether it leads.
func Example() {
	var events status.Recorder
	sup, err := supervisor.New(supervisor.Config{
		Nodes:    nodetest.Conns(nodetest.Start(3)), // real ones: node.URLs("redis://10.0.0.1:6379", ...)
		Observer: &events,
	})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	page, err := status.New(sup, status.Options{
		Title: "Leases of the mailer", Events: &events, Watch: []string{"mail-sender"},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer page.Close()

	mux := http.NewServeMux()
	mux.Handle("/leases/", http.StripPrefix("/leases", page))
	server := &http.Server{Addr: "127.0.0.1:8080", Handler: mux}
	server.RegisterOnShutdown(func() { page.Close() }) // or Shutdown would wait for browsers
	// go server.ListenAndServe()

	ask := func(path string) {
		answer := httptest.NewRecorder()
		mux.ServeHTTP(answer, httptest.NewRequest("GET", path, nil))
		fmt.Print(answer.Code, " ", answer.Body)
	}
	ask("/leases/leader/mail-sender")
	held, err := sup.Acquire(context.Background(), "mail-sender")
	if err != nil {
		log.Fatal(err)
	}
	ask("/leases/leader/mail-sender")
	ask("/leases/readyz")
	if err := held.Release(context.Background()); err != nil {
		log.Fatal(err)
	}
	// Output:
	// 503 this process does not hold "mail-sender"
	// 200 ok
	// 200 ok
}

// A page is a handler like any other, so it can be wrapped: for a login, a log or a limit.
func ExamplePage_ServeHTTP() {
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3))})
	if err != nil {
		log.Fatal(err)
	}
	defer sup.Close(context.Background())
	page, err := status.New(sup, status.Options{})
	if err != nil {
		log.Fatal(err)
	}
	defer page.Close()

	guarded := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "ops" || password != "a long secret" {
			w.Header().Set("WWW-Authenticate", `Basic realm="leases"`)
			http.Error(w, "who are you?", http.StatusUnauthorized)
			return
		}
		page.ServeHTTP(w, r)
	})
	answer := httptest.NewRecorder()
	guarded.ServeHTTP(answer, httptest.NewRequest("GET", "/status.json", nil))
	fmt.Println(answer.Code)
	// Output:
	// 401
}

// A supervisor has one Observer. One that does several things calls the Recorder's Observe; or the
// Recorder calls it, as Next.
func ExampleRecorder_Observe() {
	var events status.Recorder
	won := 0
	observer := supervisor.ObserverFunc(func(e supervisor.Event) {
		events.Observe(e)
		if e.Kind == supervisor.EventAcquired {
			won++
		}
	})
	sup, err := supervisor.New(supervisor.Config{Nodes: nodetest.Conns(nodetest.Start(3)), Observer: observer})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := sup.Acquire(context.Background(), "mail-sender"); err != nil {
		log.Fatal(err)
	}
	if err := sup.Close(context.Background()); err != nil { // which waits for the last events
		log.Fatal(err)
	}
	fmt.Println("leases won:", won)
	// Output:
	// leases won: 1
}
