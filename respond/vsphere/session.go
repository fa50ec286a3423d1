package vsphere

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/vmware/govmomi/property"

	"github.com/flowcordon/flowcordon/internal/login"
	"github.com/flowcordon/flowcordon/internal/vcenter"
)

const (
	// maxAnswer bounds one answer: a page of virtual machines with their
	// devices is some 20 kB a machine, at most maxPage of them.
	maxAnswer = 64 << 20

	// byeTimeout bounds what is tidied up after a context has ended.
	byeTimeout = 3 * time.Second
)

// session is a login at the vCenter with a view of all its virtual machines.
type session struct {
	*vcenter.Session
	pc *property.Collector
}

// newKeeper keeps one session and logs in again when it has ended: idle for 30
// minutes, ended by an admin, vCenter restarted.
func newKeeper(cfg Config) *login.Keeper[session] {
	return login.New(func(ctx context.Context) (*session, error) { return open(ctx, cfg) },
		notAuthenticated, func(s *session) { s.HTTP.CloseIdleConnections() })
}

// open dials and logs in.
func open(ctx context.Context, cfg Config) (*session, error) {
	if err := cfg.Validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	u, err := cfg.endpoint()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	tc, err := cfg.tls()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errConfig, err)
	}
	s, err := vcenter.Open(ctx, vcenter.Login{
		URL: u, TLS: tc, Timeout: cfg.timeout(), MaxAnswer: maxAnswer, Username: cfg.Username, Password: cfg.Password,
	})
	if errors.Is(err, vcenter.ErrOther) {
		return nil, fmt.Errorf("%w: url: %w", errConfig, err)
	}
	if err != nil {
		return nil, err
	}
	return &session{s, property.DefaultCollector(s.Client)}, nil
}
