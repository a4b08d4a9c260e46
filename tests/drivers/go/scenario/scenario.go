// Package scenario is what each Go program does with its driver (../../README.md).
package scenario

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

var tenants = []string{"acme", "globex", "initech"}

var answers = bufio.NewScanner(os.Stdin)

func tokenOf(tenant string) string { return os.Getenv("TOKEN_" + strings.ToUpper(tenant)) }

// DB is what runs statements in one transaction.
type DB interface {
	Names(ctx context.Context) ([]string, error)
	NameOf(ctx context.Context, id int) (string, error)
	Insert(ctx context.Context, name string) error
	Add(ctx context.Context, name string) error
	PID(ctx context.Context) (int, error)
	State(ctx context.Context) (string, error)
}

// Use is what a driver gives.
type Use interface {
	InTenant(ctx context.Context, token string, repeatable bool, work func(DB) error) error
	Unbound(ctx context.Context) error
	LeaveDirty(ctx context.Context, token string) error
	Health(ctx context.Context) error
	SQLState(err error) string
}

// Ask the other end to do something; it answers when it has.
func ask(verb, what string) error {
	fmt.Println("ask", verb, what)
	if !answers.Scan() || answers.Text() != "done" {
		return errors.New("no answer to " + verb)
	}
	return nil
}

// Retrying is where an application would log a retry; the tenant that has moved can be reached again.
func Retrying(sqlstate string) {
	if sqlstate == "TN004" {
		_ = ask("back", "globex")
	}
}

func fails(use Use, err error, states ...string) error {
	for _, state := range states {
		if err != nil && use.SQLState(err) == state {
			return nil
		}
	}
	return fmt.Errorf("%v, not %v", err, states)
}

func only(ctx context.Context, db DB, tenant string) error {
	names, err := db.Names(ctx)
	own := false
	for _, name := range names {
		if strings.HasPrefix(name, "first-") && name != "first-"+tenant {
			return fmt.Errorf("as %s: %v", tenant, names)
		}
		own = own || name == "first-"+tenant
	}
	if err == nil && !own {
		err = fmt.Errorf("as %s: %v", tenant, names)
	}
	return err
}

type run struct {
	use Use
	ctx context.Context
}

func (r run) as(tenant string, work func(DB) error) error {
	return r.use.InTenant(r.ctx, tokenOf(tenant), false, work)
}

func (r run) sees(tenant string) error {
	return r.as(tenant, func(db DB) error { return only(r.ctx, db, tenant) })
}

func (r run) insert(tenant, name string) error {
	return r.as(tenant, func(db DB) error { return db.Insert(r.ctx, name) })
}

// Four at a time, the tenants in turn: each sees its own row.
func (r run) turns() error {
	var next atomic.Int32
	var group sync.WaitGroup
	last, _ := strconv.Atoi(os.Getenv("TURNS"))
	wrong := make(chan error, last)
	for range 4 {
		group.Go(func() {
			for number := int(next.Add(1)); number <= last; number = int(next.Add(1)) {
				tenant := tenants[number%3]
				err := r.as(tenant, func(db DB) error {
					return errors.Join(db.Add(r.ctx, "first-"+tenant), only(r.ctx, db, tenant))
				})
				if err != nil {
					wrong <- err
				}
			}
		})
	}
	group.Wait()
	close(wrong)
	return <-wrong
}

// Two transactions change one row: the second fails with 40001 and is tried again.
func (r run) conflict() error {
	attempts := 0
	err := r.use.InTenant(r.ctx, tokenOf("acme"), true, func(db DB) error {
		if _, err := db.Names(r.ctx); err != nil {
			return err
		}
		if attempts++; attempts == 1 {
			if err := r.as("acme", func(other DB) error { return other.Add(r.ctx, "serial") }); err != nil {
				return err
			}
		}
		return db.Add(r.ctx, "serial")
	})
	if err == nil && attempts != 2 {
		err = errors.New("the conflict did not happen")
	}
	return err
}

func (r run) killed() error {
	attempts := 0
	err := r.as("acme", func(db DB) error {
		if err := db.Insert(r.ctx, "killed"); err != nil {
			return err
		}
		pid, err := db.PID(r.ctx)
		if err != nil {
			return err
		}
		if attempts++; attempts == 1 {
			if err := ask("kill", strconv.Itoa(pid)); err != nil {
				return err
			}
		}
		return only(r.ctx, db, "acme")
	})
	if err == nil && attempts != 2 {
		err = errors.New("the server process was not killed")
	}
	return err
}

func (r run) prepared() error {
	for number := range 24 {
		tenant := tenants[number%3]
		err := r.as(tenant, func(db DB) error {
			name, err := db.NameOf(r.ctx, 1)
			if err == nil && name != "first-"+tenant {
				err = fmt.Errorf("as %s: %s", tenant, name)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}

func (r run) types() error {
	return r.as("acme", func(db DB) error {
		state, err := db.State(r.ctx)
		if err == nil && state != "new" {
			err = errors.New("the enum reads " + state)
		}
		return err
	})
}

func (r run) unbound() error {
	if err := fails(r.use, r.use.Unbound(r.ctx), "TN001", "42P01"); err != nil {
		return err
	}
	return r.use.Health(r.ctx)
}

func (r run) reset() error {
	if err := r.use.LeaveDirty(r.ctx, tokenOf("acme")); err != nil {
		return err
	}
	return errors.Join(r.sees("acme"), r.sees("globex"), r.sees("initech"))
}

func version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dep := range info.Deps {
		if dep.Path == module {
			return strings.TrimPrefix(dep.Version, "v")
		}
	}
	return "?"
}

// Run does every step and says how it went; module names the driver.
func Run(use Use, module string) {
	r := run{use, context.Background()}
	health := func() error { return use.Health(r.ctx) }
	steps := []struct {
		name string
		step func() error
	}{
		{"connect", health},
		{"read", func() error { return r.sees("acme") }},
		{"write", func() error { return r.insert("acme", "written") }},
		{"error", func() error {
			return errors.Join(fails(use, r.insert("acme", "written"), "23505"), r.sees("globex"))
		}},
		{"unbound", r.unbound},
		{"refused", func() error {
			return fails(use, use.InTenant(r.ctx, "nonsense", false, func(DB) error { return nil }), "TN002")
		}},
		{"tenants", r.turns},
		{"prepared", r.prepared},
		{"types", r.types},
		{"moved", func() error { return errors.Join(ask("move", "globex"), r.insert("globex", "moved")) }},
		{"serial", r.conflict},
		{"killed", r.killed},
		{"reset", r.reset},
		{"health", health},
	}
	fmt.Println("version", version(module))
	for _, it := range steps {
		if err := it.step(); err != nil {
			fmt.Println("fail", it.name, strings.ReplaceAll(err.Error(), "\n", " "))
		} else {
			fmt.Println("ok", it.name)
		}
	}
}
