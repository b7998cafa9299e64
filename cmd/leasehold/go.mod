module github.com/leasehold-go/leasehold/cmd/leasehold

go 1.25.0

require (
	github.com/leasehold-go/leasehold v0.1.0
	github.com/spf13/cobra v1.10.2
)

require golang.org/x/sys v0.47.0

require go.yaml.in/yaml/v3 v3.0.5

require (
	github.com/cenkalti/backoff/v4 v4.3.0 // indirect
	github.com/cpuguy83/go-md2man/v2 v2.0.6 // indirect
	github.com/creack/pty v1.1.24
	github.com/inconshreveable/mousetrap v1.1.0 // indirect
	github.com/redis/rueidis v1.0.79
	github.com/russross/blackfriday/v2 v2.1.0 // indirect
	github.com/spf13/pflag v1.0.9
	golang.org/x/sync v0.22.0 // indirect
	golang.org/x/term v0.45.0
)
