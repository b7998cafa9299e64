package leaseotel

import (
	"context"
	"sync"
	"time"

	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/leasehold-go/leasehold/lease"
	"github.com/leasehold-go/leasehold/supervisor"
)

// spans makes the spans of acquisitions, and keeps those of tenures until they end.
type spans struct {
	tracer trace.Tracer
	now    func() time.Time // of people's clocks, as spans have it; no lease depends on it

	mu      sync.Mutex
	tenures map[string]trace.Span // by name: a supervisor has one lease of a name at a time
	untold  uint64                // events, when it was looked for tenures whose end was not told
}

// acquired makes the span of an acquisition that was just won, and begins that of the tenure.
func (s *spans) acquired(ctx context.Context, e supervisor.Event, name string) {
	end := s.now()
	about := trace.WithAttributes(nameKey.String(text(name)), fenceKey.Int64(int64(e.Fence)))
	span := s.acquisition(ctx, e, end, about)
	if span.IsRecording() {
		elected := min(e.Elapsed, e.Waited)
		if e.Waited > elected {
			span.AddEvent("waiting", trace.WithTimestamp(end.Add(-e.Waited)))
		}
		span.AddEvent("election", trace.WithTimestamp(end.Add(-elected)))
		if e.Raise > 0 {
			span.AddEvent("raise", trace.WithTimestamp(end.Add(-min(e.Raise, elected))))
		}
	}
	span.End(trace.WithTimestamp(end))

	_, tenure := s.tracer.Start(context.Background(), "leasehold tenure", trace.WithNewRoot(), trace.WithTimestamp(end),
		trace.WithLinks(trace.Link{SpanContext: span.SpanContext()}), about)
	s.mu.Lock()
	former := s.tenures[name]
	s.tenures[name] = tenure
	s.mu.Unlock()
	if former != nil {
		endUntold(former)
	}
}

// failed makes the span of an acquisition that has just failed.
func (s *spans) failed(ctx context.Context, e supervisor.Event, name, why string) {
	end := s.now()
	span := s.acquisition(ctx, e, end, trace.WithAttributes(nameKey.String(text(name)), errorType.String(why)))
	if why != held { // which is an answer
		span.SetStatus(codes.Error, describe(e.Err))
	}
	span.End(trace.WithTimestamp(end))
}

func (s *spans) acquisition(ctx context.Context, e supervisor.Event, end time.Time, about trace.SpanStartOption) trace.Span {
	_, span := s.tracer.Start(ctx, "leasehold acquire", trace.WithTimestamp(end.Add(-e.Waited)), about)
	return span
}

// ended ends the span of a tenure, because of why if it was lost.
func (s *spans) ended(e supervisor.Event, name, why string) {
	s.mu.Lock()
	tenure := s.tenures[name]
	delete(s.tenures, name)
	s.mu.Unlock()
	if tenure == nil {
		return // the event of its beginning was dropped
	}
	switch {
	case why == closed: // somebody asked for it
		tenure.SetAttributes(endKey.String(why))
	case why != "":
		tenure.SetAttributes(endKey.String(why), errorType.String(why))
		tenure.SetStatus(codes.Error, describe(e.Err))
	case e.Err == lease.ErrHandedOver:
		tenure.SetAttributes(endKey.String("handed_over"))
	default:
		tenure.SetAttributes(endKey.String("released"))
	}
	tenure.End(trace.WithTimestamp(s.now()))
}

// reconcile ends the spans of tenures whose end was not told, if events were dropped since it was done
// before. They would be kept for ever.
func (s *spans) reconcile(untold uint64, sup *supervisor.Supervisor) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if untold == s.untold {
		return
	}
	s.untold = untold
	are := make(map[string]bool)
	for _, l := range sup.Leases() {
		are[l.Name()] = true
	}
	for name, tenure := range s.tenures {
		if !are[name] {
			delete(s.tenures, name)
			endUntold(tenure)
		}
	}
}

func endUntold(tenure trace.Span) {
	tenure.SetAttributes(endKey.String("untold"))
	tenure.End()
}

func describe(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
