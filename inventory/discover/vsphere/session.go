package vsphere

import (
	"context"
	"errors"
	"fmt"
	"net/url"

	"github.com/flowcordon/flowcordon/internal/vcenter"
)

// maxAnswer bounds one answer; vCenter pages longer ones by itself.
const maxAnswer = 256 << 20

// open logs in for one discovery: between two of them a vCenter would end it anyway.
func (c Config) open(ctx context.Context) (*vcenter.Session, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	u, err := c.endpoint()
	if err != nil {
		return nil, err
	}
	tc, err := c.tls()
	if err != nil {
		return nil, err
	}
	s, err := vcenter.Open(ctx, vcenter.Login{
		URL: u, TLS: tc, Timeout: c.timeout(), MaxAnswer: maxAnswer, Username: c.Username, Password: c.Password,
	})
	var at *vcenter.Error
	switch {
	case errors.Is(err, vcenter.ErrOther):
		return nil, fmt.Errorf("url: %w", err)
	case errors.As(err, &at):
		return nil, fmt.Errorf("%s: %w", at.Step, bare(at.Err))
	}
	return s, err
}

// bare is the error without the URL around it.
func bare(err error) error {
	var ue *url.Error
	if errors.As(err, &ue) {
		return ue.Err
	}
	return err
}
