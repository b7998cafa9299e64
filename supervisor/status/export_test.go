package status

import "github.com/leasehold-go/leasehold/supervisor"

// Last returns the events that a Recorder has kept, the latest first.
func Last(r *Recorder) (list []supervisor.Event) {
	for _, e := range r.last() {
		list = append(list, e.Event)
	}
	return list
}

// Kept returns of how many leases a page that was closed remembers something.
func Kept(p *Page) int { return len(p.longest) }
