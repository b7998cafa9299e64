package node

import "github.com/redis/rueidis"

// WithPassword returns the Conn with another password.
func WithPassword(c Conn, password string) Conn {
	o := *c.opt.ClientOption
	o.Password = password
	return FromOption(o)
}

// WithDialer returns the Conn, which dials as another does.
func WithDialer(c, dialer Conn) Conn {
	o := *c.opt.ClientOption
	o.DialFn, o.DialCtxFn = dialer.opt.DialFn, dialer.opt.DialCtxFn
	return FromOption(o)
}

// OptionOf returns what the Conn was made of.
func OptionOf(c Conn) rueidis.ClientOption { return *c.opt.ClientOption }
