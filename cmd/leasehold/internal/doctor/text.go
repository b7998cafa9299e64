package doctor

import (
	"fmt"
	"io"
	"strings"

	"github.com/leasehold-go/leasehold/cmd/leasehold/internal/say"
	"github.com/leasehold-go/leasehold/internal/plain"
)

// WriteText writes the report for people.
func (r *Report) WriteText(w io.Writer) error {
	var b strings.Builder
	lines := []string{"NODE\tSERVER\tROLE\tUP\tCLIENTS\tROUND TRIP p50\tp99\tCLOCK\tRATE"}
	for _, s := range r.Servers {
		lines = append(lines, s.row())
	}
	if err := say.Table(&b, lines...); err != nil {
		return err
	}
	b.WriteByte('\n')
	for _, f := range r.Findings {
		where := ""
		if f.Node != "" {
			where = f.Node + ": "
		}
		fmt.Fprintf(&b, "%-8s %s%s: %s\n", strings.ToUpper(f.Level.String()), where, f.Check, plain.Line(f.Text))
		if f.Advice != "" {
			fmt.Fprintf(&b, "         %s\n", f.Advice)
		}
	}
	if len(r.Findings) > 0 {
		b.WriteByte('\n')
	}
	if r.Acquired > 0 {
		fmt.Fprintf(&b, "a lease was acquired in %v", r.Acquired)
		if r.HandedOver > 0 {
			fmt.Fprintf(&b, ", and handed over in %v", r.HandedOver)
		}
		b.WriteByte('\n')
	}
	for _, a := range r.Advice {
		fmt.Fprintln(&b, a)
	}
	switch r.Level {
	case Broken:
		fmt.Fprintf(&b, "BROKEN: %s", r.count(Broken))
	case Warning:
		fmt.Fprintf(&b, "works, with warnings: %s", r.count(Warning))
	default:
		b.WriteString("fine: nothing is wrong")
	}
	fmt.Fprintf(&b, " (looked at %d nodes for %v)\n", len(r.Servers), r.Took)
	_, err := io.WriteString(w, b.String())
	return err
}

func (r *Report) count(l Level) string {
	n := 0
	for _, f := range r.Findings {
		if f.Level == l {
			n++
		}
	}
	if n == 1 {
		return "1 finding"
	}
	return fmt.Sprintf("%d findings", n)
}

// row returns what is known of a server, with tabs between.
func (s Server) row() string {
	or := func(known bool, text string) string {
		if !known {
			return "-"
		}
		return text
	}
	measured := s.RoundTrips > 0
	rate := fmt.Sprintf("%+.3f%%", 100*s.Rate)
	if s.Rate < s.RateWithin && -s.Rate < s.RateWithin {
		rate = fmt.Sprintf("<%.3f%%", 100*s.RateWithin)
	}
	return strings.Join([]string{
		s.Node,
		or(s.Product != "", plain.Line(s.Product+" "+s.Version)),
		or(s.Role != "", plain.Line(s.Role)),
		or(s.Up > 0, s.Up.String()),
		or(s.MaxClients > 0, fmt.Sprintf("%d/%d", s.Clients, s.MaxClients)),
		or(measured, s.P50.String()),
		or(measured, s.P99.String()),
		or(measured, signed(s.Offset)),
		or(measured && s.RateWithin > 0, rate),
	}, "\t")
}

func signed(d say.Span) string {
	if d >= 0 {
		return "+" + d.String()
	}
	return d.String()
}
