// Package status shows a supervisor to people and to probes: an [http.Handler] with a page, and with
// the addresses that Kubernetes and load balancers ask.
//
//	var events status.Recorder
//	sup, err := supervisor.New(supervisor.Config{Nodes: nodes, Observer: &events})
//	...
//	page, err := status.New(sup, status.Options{Events: &events, Watch: []string{"nightly-report"}})
//	...
//	defer page.Close()
//	http.Handle("/leases/", http.StripPrefix("/leases", page))
//
// It answers GET and HEAD. All links are relative, so it works under any prefix:
//
//	/               the page: nodes, leases held here, names watched, the last events
//	/status.json    the same as JSON
//	/livez          200 as long as the supervisor's goroutine does its work, else 503
//	/readyz         200 if the supervisor is healthy, else 503
//	/leader/NAME    200 if this process holds NAME, else 503
//
// An answer of 503 says why in words. A name may contain slashes, as in /leader/orders/eu.
// /livez is 200 also while too few nodes are up, because a restart of the process would not mend that.
//
// # Who may see it
//
// A page asks for no login. It shows names, owners, addresses of nodes and texts of errors. It never shows a token
// or a password, and nothing can be changed with it. Serve it at an address that only operators and
// probes reach. docs/status.md says how.
//
// # What it costs
//
// The page takes no part in any decision, and the supervisor never waits for it. A goroutine looks twice a second at what the
// supervisor knows, which asks no node. A second one asks the nodes once a second about the names
// to watch, but only while somebody looks at the page. A browser that is slow misses states, and holds up nobody; one
// that takes nothing for ten seconds is cut off. So many browsers are served at once as
// Options.Streams says. [Page.Close] ends all of that.
package status
