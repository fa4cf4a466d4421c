package params

import (
	"regexp"
	"time"

	"swarmboot/internal/field"
)

// HookPoint is when a hook runs.
type HookPoint string

// The points, in the order in which a deployment comes to them.
const (
	HookBeforeDisks HookPoint = "before-disks" // before a disk is chosen
	HookAfterWrite  HookPoint = "after-write"  // the image is on the disk, verified and grown; its root is mounted
	HookBeforeKexec HookPoint = "before-kexec" // the last moment before the new system starts, whichever way; its root is mounted
)

// OnHookFailure is what follows the failure of a hook.
type OnHookFailure string

// The values of OnHookFailure; "" is fail.
const (
	HookFail   OnHookFailure = "fail"   // the deployment fails
	HookIgnore OnHookFailure = "ignore" // it becomes a warning
)

// Limits of hooks.
const (
	DefaultHookTimeout = 60 * time.Second
	MaxHookTimeout     = time.Hour
	MaxHooks           = 16
)

// Hook is a program that a node runs: a static executable, or a script, which /bin/sh runs where the interpreter that its
// first line names is not there.
type Hook struct {
	Name      string        `json:"name"` // for messages; a node's own profile replaces the hook of the same name
	At        HookPoint     `json:"at"`
	Content   *string       `json:"content,omitempty"`
	URL       string        `json:"url,omitempty"`     // http://..., or a path on the server; instead of Content
	SHA256    string        `json:"sha256,omitempty"`  // of what URL gives, hexadecimal
	Timeout   string        `json:"timeout,omitempty"` // such as 90s; "": DefaultHookTimeout
	OnFailure OnHookFailure `json:"onFailure,omitempty"`
}

// Limit is how long the hook may run.
func (h Hook) Limit() time.Duration {
	if d, err := time.ParseDuration(h.Timeout); err == nil {
		return d
	}
	return DefaultHookTimeout
}

var hookName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

func checkHooks(c field.Checker, hooks []Hook) {
	if len(hooks) > MaxHooks {
		c.Fail("%d hooks, at most %d are taken", len(hooks), MaxHooks)
		return
	}
	seen := map[string]bool{}
	for i, h := range hooks {
		h.check(c.In(i))
		if seen[h.Name] {
			c.In(i, "name").Fail("%.100q: stands here twice", h.Name)
		}
		seen[h.Name] = true
	}
}

func (h Hook) check(c field.Checker) {
	if !hookName.MatchString(h.Name) {
		c.In("name").Fail("%.100q: want letters, digits and ._-, at most 64, a letter or digit first", h.Name)
	}
	if h.At == "" {
		c.In("at").Fail("missing: want one of %s", join([]HookPoint{HookBeforeDisks, HookAfterWrite, HookBeforeKexec}))
	}
	oneOf(c.In("at"), h.At, HookBeforeDisks, HookAfterWrite, HookBeforeKexec)
	oneOf(c.In("onFailure"), h.OnFailure, HookFail, HookIgnore)
	if h.Timeout != "" {
		if d, err := time.ParseDuration(h.Timeout); err != nil || d < time.Second || d > MaxHookTimeout {
			c.In("timeout").Fail("%.100q: want a time from 1s to %s, such as 90s", h.Timeout, MaxHookTimeout)
		}
	}
	File{Content: h.Content, URL: h.URL, SHA256: h.SHA256}.checkContent(c)
	if h.Content != nil && *h.Content == "" {
		c.In("content").Fail("is empty")
	}
}
