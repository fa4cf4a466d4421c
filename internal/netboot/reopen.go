package netboot

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"

	"swarmboot/internal/pause"
)

// errGone says that the interface was removed, and may have been made anew since. Sockets belong to the one that was, and neither hear
// nor say anything any more, without an error: when a bridge or VLAN is set up again, or a card at a USB port is plugged in again.
var errGone = errors.New("the interface was removed")

// run answers on the interface until ctx ends or a socket breaks, and anew whenever the interface was removed and is back.
func (l *link) run(ctx context.Context) error {
	for {
		if err := l.serve(ctx); !errors.Is(err, errGone) {
			return err
		}
		if err := l.reopen(ctx); err != nil {
			return err
		}
	}
}

// serve answers until ctx ends, a socket breaks or the interface is gone, and closes the sockets.
func (l *link) serve(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return l.stay(ctx) })
	g.Go(func() error {
		<-ctx.Done()
		l.close() // which ends the others
		return nil
	})
	g.Go(func() error { return l.serveDHCP(ctx) })
	g.Go(func() error { return l.watch(ctx) })
	if l.arp != nil {
		g.Go(func() error { return l.arp.run(ctx) })
	}
	if l.tftp != nil {
		g.Go(func() error { return l.serveTFTP(ctx) })
	}
	if l.ra != nil {
		g.Go(func() error { return l.ra.run(ctx) })
	}
	return g.Wait()
}

// stay waits until the interface is gone, or ctx ends.
func (l *link) stay(ctx context.Context) error {
	for pause.For(ctx, tick) == nil {
		nl, err := netlink.LinkByName(l.Interface)
		if err == nil && nl.Attrs().Index != l.index {
			err = errors.New("this is a new one of that name")
		} else if !errors.As(err, &netlink.LinkNotFoundError{}) {
			continue // there, or nobody can say
		}
		l.lost(err)
		return errGone
	}
	return ctx.Err()
}

// lost notes that the interface was removed, and what is amiss with it now.
func (l *link) lost(now error) {
	why := fmt.Sprintf("interface %s was removed: nothing is answered there until it is back with address %s (%v)", l.Interface, l.subnet, now)
	if old := l.gone.Swap(&why); old == nil || *old != why {
		l.log.Error(why)
	}
}

// reopen waits until the interface is back, or ctx ends, and opens the sockets anew. The leases stay.
func (l *link) reopen(ctx context.Context) error {
	for err := l.back(ctx); err != nil; err = l.back(ctx) {
		l.lost(err)
		if err := pause.For(ctx, tick); err != nil {
			return err
		}
	}
	l.gone.Store(nil)
	l.log.Info("the interface is back")
	return nil
}

// back opens the sockets if the interface is there as it was.
func (l *link) back(ctx context.Context) error {
	nl, err := netlink.LinkByName(l.Interface)
	if err != nil {
		return err
	}
	addrs, err := addresses(nl)
	switch {
	case err != nil:
		return err
	case nl.Attrs().Flags&net.FlagUp == 0:
		return errors.New("it is down")
	case !slices.Contains(addrs, l.subnet):
		return errors.New("it does not have that address")
	}
	if !l.force && l.silent.Load() == nil {
		// It may be at another network now.
		offer, err := l.rival(ctx)
		if err != nil {
			return fmt.Errorf("cannot look for other DHCP servers: %w", err)
		}
		if offer != nil {
			l.hush(offer)
		}
	}
	l.index = nl.Attrs().Index
	if err := l.open(); err != nil {
		l.close()
		return err
	}
	return nil
}
