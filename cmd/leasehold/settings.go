package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/spf13/pflag"

	"github.com/leasehold-go/leasehold/node"
	"github.com/leasehold-go/leasehold/supervisor"
)

// settings are shared by all subcommands: how the nodes are reached, and where messages go. A
// subcommand reads them when it is run, not when it is made.
type settings struct {
	nodes              string
	nodesFile          string
	former, formerFile string
	prefix             string
	ttl                time.Duration
	maxTTL             time.Duration // 0: the same as ttl
	cap                time.Duration // of the maxTTL of all clients
	ca                 string
	cert, key          string
	output             string // outputText or outputJSON
	quiet              bool
	verbose            bool

	out, err io.Writer
	signal   os.Signal // the signal that ended a question; read after its context is done
}

// These are the values of -o.
const (
	outputText = "text"
	outputJSON = "json"
)

// bind makes the flags set the settings.
func (s *settings) bind(f *pflag.FlagSet) {
	s.output = outputText
	f.StringVar(&s.nodes, "nodes", "", "the Redis nodes, as `URLs` with commas between them: redis://, rediss:// (TLS) or unix://")
	f.StringVar(&s.nodesFile, "nodes-file", "", "a `file` with the URLs of the nodes, one a line; # begins a comment. It keeps passwords out of the list of processes (default none)")
	f.StringVar(&s.former, "former", "", "the Redis nodes that are being left while --nodes take their place, as `URLs`. Give both to all processes, then run leasehold nodes finish, then take this away again (default: the nodes are not being changed)")
	f.StringVar(&s.formerFile, "former-file", "", "a `file` with the URLs of those, as --nodes-file (default none)")
	f.StringVar(&s.prefix, "prefix", "", "`text` that is put before each name to make its key (default none)")
	f.Var(durationVar(&s.ttl, 10*time.Second), "ttl", "how long the nodes keep a name that is no longer renewed")
	f.Var(durationVar(&s.maxTTL, 0), "max-ttl", "the largest --ttl of any process of this kind, which the nodes remember for the others (default: that of --ttl)")
	f.Var(durationVar(&s.cap, time.Minute), "max-ttl-cap", "the largest --max-ttl of any client of the nodes; give all clients the same. A node that was started or has lost its data grants nothing for so long at most")
	f.StringVar(&s.ca, "ca", "", "a PEM `file` with the certificates that sign those of the nodes. For rediss:// only, as are --cert and --key (default: those of the system)")
	f.StringVar(&s.cert, "cert", "", "a PEM `file` with the certificate that is shown to the nodes (default none)")
	f.StringVar(&s.key, "key", "", "a PEM `file` with the key of --cert (default none)")
	f.VarP(oneOf(&s.output, outputText, outputJSON), "output", "o", "the form of standard output: `text` or json")
	f.BoolVarP(&s.quiet, "quiet", "q", false, "do not say what the command waits for, nor that a name was held")
	f.BoolVarP(&s.verbose, "verbose", "v", false, "also say when a name is acquired, renewed late or released, and what happens to the nodes")
}

// complete reads settings that no flag has set from the environment, and checks them together.
func (s *settings) complete(f *pflag.FlagSet) error {
	var broken []error
	f.VisitAll(func(flag *pflag.Flag) {
		if value, set := os.LookupEnv(variable(flag.Name)); set && !flag.Changed && value != "" && flag.Name != "help" && flag.Name != "version" && flag.Annotations[byFlagAlone] == nil {
			if err := f.Set(flag.Name, value); err != nil {
				broken = append(broken, fmt.Errorf("%s: %w", variable(flag.Name), err))
			}
		}
	})
	if s.quiet && s.verbose {
		broken = append(broken, errors.New("--quiet and --verbose: give only one of them"))
	}
	return errors.Join(broken...)
}

// byFlagAlone annotates a flag that no environment variable sets, because another command's flag of
// the same name has another meaning.
const byFlagAlone = "leasehold-by-flag-alone"

// variable returns the name of the environment variable that stands for a flag.
func variable(flag string) string {
	return "LEASEHOLD_" + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// json reports whether the output is for programs.
func (s *settings) json() bool { return s.output == outputJSON }

// emit writes a value as a line of JSON to standard output.
func (s *settings) emit(v any) error { return json.NewEncoder(s.out).Encode(v) }

// complain writes a line to standard error.
func (s *settings) complain(err error) { fmt.Fprintf(s.err, "leasehold: %v\n", err) }

// urls returns the nodes that were given.
func (s *settings) urls() ([]string, error) {
	urls, err := s.urlsOf("nodes", s.nodes, s.nodesFile)
	if err == nil && urls == nil {
		err = errors.New("no nodes: give --nodes, --nodes-file, LEASEHOLD_NODES or LEASEHOLD_NODES_FILE")
	}
	return urls, err
}

// urlsOf returns the nodes of a flag, or of that for a file.
func (s *settings) urlsOf(flag, list, file string) ([]string, error) {
	if file != "" {
		if list != "" {
			return nil, fmt.Errorf("--%s and --%[1]s-file: give only one of them", flag)
		}
		text, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("--%s-file: %w", flag, err)
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); !strings.HasPrefix(line, "#") {
				list += line + ","
			}
		}
	}
	var urls []string
	for one := range strings.SplitSeq(list, ",") {
		if one = strings.TrimSpace(one); one != "" {
			urls = append(urls, s.withFiles(one))
		}
	}
	return urls, nil
}

// withFiles adds the files for TLS to a URL that uses it and does not name its own.
func (s *settings) withFiles(text string) string {
	if s.ca == "" && s.cert == "" && s.key == "" || !strings.HasPrefix(text, "rediss:") {
		return text
	}
	u, err := url.Parse(text)
	if err != nil {
		return text // package node says what is wrong with it, without its password
	}
	q := u.Query()
	for name, file := range map[string]string{"cacert": s.ca, "cert": s.cert, "key": s.key} {
		if file != "" && !q.Has(name) {
			q.Set(name, file)
		}
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// supervise makes a supervisor on the nodes that were given.
func (s *settings) supervise(cfg supervisor.Config) (*supervisor.Supervisor, error) {
	cfg, err := s.configure(cfg)
	if err != nil {
		return nil, err
	}
	return supervisor.New(cfg)
}

// configure sets the fields that the settings are about.
func (s *settings) configure(cfg supervisor.Config) (supervisor.Config, error) {
	urls, err := s.urls()
	if err != nil {
		return cfg, err
	}
	former, err := s.urlsOf("former", s.former, s.formerFile)
	if err != nil {
		return cfg, err
	}
	cfg.Nodes, cfg.Former, cfg.TTL, cfg.Prefix = node.URLs(urls...), node.URLs(former...), s.ttl, s.prefix
	// The library would say the same of its fields, whose names the user has not typed here.
	longest := "--max-ttl"
	if cfg.MaxTTL = s.maxTTL; s.maxTTL == 0 {
		longest, cfg.MaxTTL = "--ttl", s.ttl
	}
	cfg.MaxTTLCap = s.cap
	if cfg.MaxTTL < s.ttl {
		return cfg, fmt.Errorf("--max-ttl %v: want at least --ttl = %v", cfg.MaxTTL, s.ttl)
	}
	if s.cap < cfg.MaxTTL {
		return cfg, fmt.Errorf("--max-ttl-cap %v: want at least %s = %v, and the same for all clients of the nodes", s.cap, longest, cfg.MaxTTL)
	}
	return cfg, nil
}

// ask makes a supervisor for a question, and waits until it has met the nodes. Then it runs do
// until a signal comes, and returns what do returns.
func (s *settings) ask(do func(context.Context, *supervisor.Supervisor) error) error {
	ctx, stop := s.untilSignal()
	defer stop()
	told := make(nudge, 1)
	sup, err := s.supervise(supervisor.Config{Observer: told, NoLeases: true})
	if err != nil {
		return s.failure(err)
	}
	defer end(sup)
	reached(ctx, sup, told) // otherwise some would be shown as unreachable
	return do(ctx, sup)
}

// untilSignal returns a context that a signal ends.
func (s *settings) untilSignal() (context.Context, func()) {
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, endings...)
	ctx, stop := context.WithCancel(context.Background())
	go func() {
		select {
		case s.signal = <-signals:
			stop()
		case <-ctx.Done():
		}
	}()
	return ctx, func() {
		signal.Stop(signals)
		stop()
	}
}

// A nudge is a channel on which it sends, if there is room, when something happens.
type nudge chan struct{}

// Observe implements supervisor.Observer.
func (n nudge) Observe(supervisor.Event) {
	select {
	case n <- struct{}{}:
	default:
	}
}

// reached waits until every node was reached, or was found to be unreachable.
func reached(ctx context.Context, sup *supervisor.Supervisor, told nudge) {
	for !known(sup.Nodes()) && ctx.Err() == nil {
		select {
		case <-told:
		case <-ctx.Done():
		}
	}
}

// reachQuorum reports whether those nodes of which is returns true have a quorum of each list.
func reachQuorum(nodes []supervisor.NodeStatus, is func(supervisor.NodeStatus) bool) bool {
	var in, reached [supervisor.ListBoth]int
	for _, n := range nodes {
		for list := range in {
			if n.List != supervisor.List(list) && n.List != supervisor.ListBoth {
				continue
			}
			if in[list]++; is(n) {
				reached[list]++
			}
		}
	}
	for list := range in {
		if in[list] > 0 && reached[list] < in[list]/2+1 {
			return false
		}
	}
	return true
}

// known reports whether every node is one or the other.
func known(nodes []supervisor.NodeStatus) bool {
	for _, n := range nodes {
		if !n.Enrolled && n.Err == nil {
			return false
		}
	}
	return true
}

// end closes the supervisor, and waits for the nodes no longer than a moment.
func end(sup *supervisor.Supervisor) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = sup.Close(ctx) // what is not confirmed expires
}
