package node

import "github.com/redis/rueidis"

// WithPassword returns the Conn with another password.
func WithPassword(c Conn, password string) Conn {
	o := *c.opt
	o.Password = password
	return Option(o)
}

// OptionOf returns what the Conn was made of.
func OptionOf(c Conn) rueidis.ClientOption { return *c.opt }
