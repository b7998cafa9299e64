package main

import (
	"net"
	"sync"
	"time"
)

// A proxy stands in front of a server, and hands every byte on a while later, in
// both directions: a server that is some distance away.
type proxy struct {
	listener net.Listener
	server   string
	delay    time.Duration

	mu     sync.Mutex
	conns  map[net.Conn]bool
	closed bool
	all    sync.WaitGroup
}

func startProxy(server string, delay time.Duration) (*proxy, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	p := &proxy{listener: l, server: server, delay: delay, conns: map[net.Conn]bool{}}
	p.all.Go(p.accept)
	return p, nil
}

func (p *proxy) addr() string { return p.listener.Addr().String() }

func (p *proxy) close() {
	p.listener.Close()
	p.mu.Lock()
	p.closed = true
	for c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.all.Wait()
}

// own remembers a connection that close is to close.
func (p *proxy) own(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		c.Close()
		return false
	}
	p.conns[c] = true
	return true
}

func (p *proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		server, err := net.Dial("tcp", p.server)
		if err != nil {
			client.Close()
			continue
		}
		if p.own(client) && p.own(server) {
			p.all.Go(func() { p.carry(client, server) })
			p.all.Go(func() { p.carry(server, client) })
		}
	}
}

// A parcel is some bytes, and when they are due on the other side.
type parcel struct {
	data []byte
	due  time.Time
}

// carry hands on what comes from one side. The end of a connection ends the other
// one too, at once.
func (p *proxy) carry(from, to net.Conn) {
	s, err := newSleeper()
	if err != nil {
		from.Close()
		to.Close()
		return
	}
	parcels := make(chan parcel, 1024)
	p.all.Go(func() {
		defer to.Close()
		for next := range parcels {
			err := s.until(next.due)
			if err == nil {
				_, err = to.Write(next.data)
			}
			if err != nil {
				from.Close()
			}
		}
		s.close()
	})
	for {
		data := make([]byte, 16<<10)
		n, err := from.Read(data)
		if n > 0 {
			parcels <- parcel{data[:n], time.Now().Add(p.delay)}
		}
		if err != nil {
			close(parcels)
			return
		}
	}
}
