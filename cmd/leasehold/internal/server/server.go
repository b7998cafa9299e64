// Package server asks one server what the library does not ask: its state, what it allows, which
// keys it has. It changes nothing by itself.
package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/redis/rueidis"

	"github.com/leasehold-go/leasehold/internal/plain"
	"github.com/leasehold-go/leasehold/node"
)

// A Conn is a connection to one server. After a failure the next call connects again. Its methods
// may be called from any goroutine.
type Conn struct {
	client  rueidis.Client
	secrets *strings.Replacer
}

// Dial connects to a node, whatever it turns out to be: even to a replica or a cluster. Each step
// of connecting may take so long; ctx ends it early. The error contains no credential.
func Dial(ctx context.Context, n node.Conn, within time.Duration) (*Conn, error) {
	o, ok := n.Option()
	if !ok {
		if err := n.Err(); err != nil {
			return nil, err
		}
		return nil, errors.New("a client's connection cannot be asked")
	}
	var hide []string
	for _, secret := range []string{o.Password, o.Sentinel.Password} {
		if secret != "" {
			hide = append(hide, secret, "***")
		}
	}
	c := &Conn{secrets: strings.NewReplacer(hide...)}
	o.ForceSingleClient = o.Sentinel.MasterSet == ""
	o.DisableCache, o.DisableRetry = true, true
	o.PipelineMultiplex, o.BlockingPipeline = -1, -1
	o.RingScaleEachConn, o.ReadBufferEachConn, o.WriteBufferEachConn = 8, 16<<10, 16<<10
	o.ClientSetInfo = rueidis.DisableClientSetInfo
	o.ConnWriteTimeout, o.Dialer.Timeout, o.Sentinel.Dialer.Timeout = within, within, within
	// The library takes no context for this.
	made := make(chan error, 1)
	var client rueidis.Client
	go func() {
		var err error
		client, err = rueidis.NewClient(o) // read after the receiving
		made <- err
	}()
	select {
	case err := <-made:
		if err != nil {
			if client != nil {
				client.Close()
			}
			return nil, c.clean(err)
		}
		c.client = client
		return c, nil
	case <-ctx.Done():
		go func() {
			if <-made; client != nil {
				client.Close()
			}
		}()
		return nil, c.clean(ctx.Err())
	}
}

// Close ends the connection.
func (c *Conn) Close() { c.client.Close() }

// Do sends commands in one pipeline. An error is about all of them: the server did not answer. An
// answer may be an error as well.
func (c *Conn) Do(ctx context.Context, commands ...[]string) ([]Answer, error) {
	built := make(rueidis.Commands, len(commands))
	for i, words := range commands {
		built[i] = c.client.B().Arbitrary(words...).Build()
	}
	results := c.client.DoMulti(ctx, built...)
	answers := make([]Answer, len(results))
	for i, r := range results {
		if err := r.NonRedisError(); err != nil {
			return nil, c.clean(err)
		}
		answers[i] = Answer{r, c}
	}
	return answers, nil
}

// Listen subscribes to a channel, and returns once it is subscribed, or with the error if the
// server refuses. After that the connection can be used for nothing else.
func (c *Conn) Listen(ctx context.Context, channel string) error {
	ctx, done := context.WithCancel(ctx)
	defer done()
	var listens atomic.Bool
	hooked := rueidis.WithOnSubscriptionHook(ctx, func(s rueidis.PubSubSubscription) {
		if s.Kind == "subscribe" {
			listens.Store(true)
			done()
		}
	})
	err := c.client.Receive(hooked, c.client.B().Subscribe().Channel(channel).Build(), func(rueidis.PubSubMessage) {})
	if listens.Load() || err == nil {
		return nil
	}
	return c.clean(err)
}

// clean returns an error in one line, without credentials.
func (c *Conn) clean(err error) error {
	text := c.secrets.Replace(plain.Line(err.Error()))
	if errors.Is(err, io.EOF) {
		text = "connection closed by the server"
	}
	refused := new(rueidis.RedisError)
	return &Error{Text: text, Refused: errors.As(err, &refused), Late: errors.Is(err, context.DeadlineExceeded) || strings.Contains(text, "i/o timeout")}
}

// An Error says what went wrong.
type Error struct {
	Text    string // in one line
	Refused bool   // these are the server's own words
	Late    bool   // it did not answer in time
}

func (e *Error) Error() string { return e.Text }

// Begins reports whether err is a server's error that begins with one of some words. The words do
// not include a leading "ERR", which says nothing.
func Begins(err error, words ...string) bool {
	var e *Error
	if !errors.As(err, &e) || !e.Refused {
		return false
	}
	for _, w := range words {
		if strings.HasPrefix(strings.TrimPrefix(e.Text, "ERR "), w) {
			return true
		}
	}
	return false
}

// Denied returns what a user has no right to, "command", "key" or "channel"; "" if err is something
// else.
func Denied(err error) string {
	if !Begins(err, "NOPERM") {
		return ""
	}
	// The name of the user may be in it, too.
	_, what, _ := strings.Cut(err.Error(), "permissions to ")
	for _, kind := range []string{"command", "channel", "key"} {
		if strings.Contains(what, kind) {
			return kind
		}
	}
	return "command"
}

// An Answer is a server's answer to one command.
type Answer struct {
	result rueidis.RedisResult
	conn   *Conn
}

// Err returns the server's error, or nil; nil is no error.
func (a Answer) Err() error {
	if err := a.result.Error(); err != nil && !rueidis.IsRedisNil(err) {
		return a.conn.clean(err)
	}
	return nil
}

// Text returns a string, "" if there is none.
func (a Answer) Text() string {
	s, _ := a.result.ToString()
	return s
}

// Strings returns a list of strings, nil if there is none.
func (a Answer) Strings() []string {
	list, err := a.result.AsStrSlice()
	if err != nil {
		return nil
	}
	return list
}

// Scores returns the members of a sorted set with their scores.
func (a Answer) Scores() []rueidis.ZScore {
	list, _ := a.result.AsZScores()
	return list
}

// Scan returns the cursor for the next SCAN, "0" if it was the last, and the keys.
func (a Answer) Scan() (next string, keys []string, err error) {
	e, err := a.result.AsScanEntry()
	if err != nil {
		return "0", nil, a.conn.clean(err)
	}
	return strconv.FormatUint(e.Cursor, 10), e.Elements, nil
}

// Time returns the answer to TIME, since the Unix epoch.
func (a Answer) Time() (time.Duration, error) {
	list, err := a.result.AsStrSlice()
	if err != nil {
		return 0, a.conn.clean(err)
	}
	if len(list) == 2 {
		s, err := strconv.ParseInt(list[0], 10, 64)
		us, err2 := strconv.ParseInt(list[1], 10, 64)
		if err == nil && err2 == nil {
			return time.Duration(s)*time.Second + time.Duration(us)*time.Microsecond, nil
		}
	}
	return 0, fmt.Errorf("unexpected answer to TIME: %q", list)
}

// Info is the answer to INFO, by field.
type Info map[string]string

// Info parses the answer to INFO.
func (a Answer) Info() Info {
	info := make(Info)
	for line := range strings.Lines(a.Text()) {
		if key, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			info[key] = value
		}
	}
	return info
}

// Int returns a field as a number; false if there is none.
func (i Info) Int(field string) (int64, bool) {
	n, err := strconv.ParseInt(i[field], 10, 64)
	return n, err == nil
}

// Product returns the server's product, and its version. Forks of Redis also have a redis_version:
// the version whose protocol they speak.
func (i Info) Product() (name, version string) {
	switch {
	case i["valkey_version"] != "":
		return "Valkey", i["valkey_version"]
	case i["server_name"] == "valkey":
		return "Valkey", i["redis_version"]
	case i["dragonfly_version"] != "":
		return "Dragonfly", strings.TrimPrefix(i["dragonfly_version"], "df-v")
	case i["garnet_version"] != "":
		return "Garnet", i["garnet_version"]
	case i["mvcc_depth"] != "", strings.Contains(strings.ToLower(i["executable"]), "keydb"):
		return "KeyDB", i["redis_version"] // it names itself nowhere else
	case i["redis_version"] != "":
		return "Redis", i["redis_version"]
	}
	return "", ""
}
