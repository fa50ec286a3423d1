package collector

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"
)

// listen binds all addresses and makes their readers; an error leaves nothing open.
func (c *Collector) listen(ctx context.Context) (err error) {
	defer func() {
		if err != nil {
			err = errors.Join(err, c.closeSockets())
		}
	}()
	if c.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("eventfd: %w", err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, l := range c.cfg.Listen {
		g, err := openGroup(ctx, i, l, c.cfg.Workers, c.cfg.ReadBuffer, c.steer)
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		c.groups = append(c.groups, g)
		c.tell(g)
		for j, fd := range g.sockets {
			b, err := newBatch(c.cfg.MaxDatagram)
			if err != nil {
				return err
			}
			c.readers = append(c.readers, &reader{c: c, group: g, number: j, fd: fd, lane: c.lanes[j], batch: b, pacer: newPacer(g.readBuffer, time.Now())})
		}
	}
	return nil
}

// tell logs what was bound and what is not as it should be.
func (c *Collector) tell(g *group) {
	c.log.Info("listening", zap.Stringer("address", g.addr), zap.Int("sockets", len(g.sockets)), zap.Int("read_buffer", g.readBuffer))
	if g.unsteered != nil {
		c.log.Warn("this kernel cannot spread exporters over several sockets; one core reads and decodes all of them",
			zap.Stringer("address", g.addr), zap.Error(g.unsteered))
	}
	if g.readBuffer < c.cfg.ReadBuffer {
		c.log.Warn("the kernel granted a smaller receive buffer; bursts will be lost",
			zap.Stringer("address", g.addr), zap.Int("asked", c.cfg.ReadBuffer), zap.Int("granted", g.readBuffer),
			zap.String("to_grant_it_run", fmt.Sprintf("sysctl -w net.core.rmem_max=%d", c.cfg.ReadBuffer)))
	}
}

// wakeReaders ends idle waits, those to come too.
func (c *Collector) wakeReaders() error {
	_, err := unix.Write(c.wake, binary.NativeEndian.AppendUint64(nil, 1))
	return err
}

// closeSockets gives all descriptors and buffers back.
func (c *Collector) closeSockets() error {
	var errs []error
	for _, g := range c.groups {
		errs = append(errs, g.close())
	}
	for _, r := range c.readers {
		errs = append(errs, r.batch.free())
	}
	return errors.Join(append(errs, unix.Close(c.wake))...)
}
