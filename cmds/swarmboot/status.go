package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"swarmboot/internal/cli"
	"swarmboot/internal/event"
	"swarmboot/internal/web"
)

const statusUsage = `Usage: swarmboot status [--server URL] [--json]
       swarmboot status [--server URL] --redeploy NODE|all

Shows the images and nodes of a server. --redeploy lets a node that was
deployed be deployed again when it next boots from the network. NODE is the MAC
address that it boots by; where an adapter or card was another machine's
before, that one stays deployed, and NODE may have to be asked for twice.

Options:
`

// maxAnswer bounds what is read from the server.
const maxAnswer = 256 << 20 // 65,536 nodes with their steps are about 130 MB

func runStatus(ctx context.Context, args []string, stdout, _ io.Writer) error {
	fs := flag.NewFlagSet("status", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	server := fs.String("server", "http://127.0.0.1:8080", "`URL` of the server")
	asJSON := fs.Bool("json", false, "print one JSON object")
	var redeploy string
	fs.Func("redeploy", "`NODE` (its MAC address), or all", func(s string) error {
		if redeploy = s; s == "" {
			return errors.New("it names no node")
		}
		return nil
	})
	err := fs.Parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		cli.Help(stdout, statusUsage, fs)
		return err
	case err != nil:
		return cli.Usagef("status: %w", err)
	case fs.NArg() > 0:
		return cli.Usagef("status: unexpected argument %q", fs.Arg(0))
	}
	u, err := url.Parse(*server)
	if err != nil || u.Scheme != "http" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return cli.Usagef("status: --server %q is not a URL http://HOST:PORT or http://HOST:PORT/PATH", *server)
	}
	// No proxy, as on the nodes: the server is on this network, and a proxy for the Internet does not know it.
	c := apiClient{base: u.String(), http: &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{}}}
	defer c.http.CloseIdleConnections()
	if redeploy != "" {
		return c.redeploy(ctx, redeploy, stdout)
	}
	return c.show(ctx, *asJSON, stdout)
}

// apiClient talks to a server's API.
type apiClient struct {
	base string
	http *http.Client
}

// do sends a request and decodes the JSON answer into v.
func (c apiClient) do(ctx context.Context, method, path string, v any) error {
	target, err := url.JoinPath(c.base, path)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, method, target, nil)
	if err != nil {
		return err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return cli.WithCode(cli.CodeUnreachable, fmt.Errorf("server: %w", err))
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if err != nil {
		return cli.WithCode(cli.CodeUnreachable, fmt.Errorf("server: %w", err))
	}
	if len(body) > maxAnswer {
		return fmt.Errorf("server %s: its answer has more than %d bytes", c.base, maxAnswer)
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("server %s: %s", c.base, strings.TrimSpace(string(body[:min(len(body), 1000)])))
	}
	if err := json.Unmarshal(body, v); err != nil {
		return fmt.Errorf("server %s is no swarmboot server: %w", c.base, err)
	}
	return nil
}

func (c apiClient) redeploy(ctx context.Context, node string, stdout io.Writer) error {
	var answer struct {
		Nodes int `json:"nodes"`
	}
	if err := c.do(ctx, http.MethodPost, "/api/v1/nodes/"+url.PathEscape(node)+"/redeploy", &answer); err != nil {
		return err
	}
	_, err := fmt.Fprintf(stdout, "%d to be deployed at the next boot from the network\n", answer.Nodes)
	return err
}

func (c apiClient) show(ctx context.Context, asJSON bool, stdout io.Writer) error {
	var all struct {
		Warnings []string        `json:"warnings"`
		Images   []web.ImageInfo `json:"images"`
		Nodes    []web.Node      `json:"nodes"`
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/warnings", &all.Warnings); err != nil {
		return err
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/images", &all.Images); err != nil {
		return err
	}
	if err := c.do(ctx, http.MethodGet, "/api/v1/nodes", &all.Nodes); err != nil {
		return err
	}
	if asJSON {
		e := json.NewEncoder(stdout)
		e.SetIndent("", "  ")
		return e.Encode(all)
	}
	for _, warning := range all.Warnings {
		if _, err := fmt.Fprintf(stdout, "warning: %s\n\n", printable(warning)); err != nil {
			return err
		}
	}
	w := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "IMAGE\tSTATE\tUSED\tPAYLOAD\tSENT")
	for _, im := range all.Images {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", im.Name, imageState(im), web.Size(im.UsedBytes), web.Size(im.PayloadLength), web.Size(im.Uploaded))
	}
	fmt.Fprintln(w, "\nNODE\tSWITCH\tIMAGE\tDISK\tPHASE\tDONE\tRATE\tFROM SERVER\tFROM NODES\tREMARK")
	for _, n := range all.Nodes {
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d%%\t%s/s\t%s\t%s\t%s\n", n.Node, printable(n.Switch.String()), n.Image, printable(n.Disk), nodePhase(n), web.Percent(n.Progress),
			web.Size(n.Rate), web.Size(n.FromServer), web.Size(n.FromNodes), remark(n))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return showPlans(all.Nodes, stdout)
}

// showPlans prints what nodes would have done in a dry run.
func showPlans(nodes []web.Node, stdout io.Writer) error {
	for _, n := range nodes {
		if n.Phase != event.PhasePlan {
			continue
		}
		fmt.Fprintf(stdout, "\ndry run of %s:\n", printable(n.Node))
		for line := range strings.Lines(n.Message) {
			if _, err := fmt.Fprintf(stdout, "  %s\n", strings.TrimRight(printable(line), " ")); err != nil {
				return err
			}
		}
	}
	return nil
}

func imageState(im web.ImageInfo) string {
	switch im.State {
	case "checking":
		return fmt.Sprintf("checking %d%%", im.Percent)
	case "broken":
		return printable("broken: " + im.Reason)
	}
	return im.State
}

func nodePhase(n web.Node) string {
	if n.Lost {
		return "lost in " + string(n.Phase)
	}
	return string(n.Phase)
}

func remark(n web.Node) string {
	if n.Error != "" {
		return printable(n.Error)
	}
	if n.Phase == event.PhasePlan {
		return "a dry run: nothing was written; see below"
	}
	parts := slices.Clone(n.Warnings)
	if n.Message != "" && !slices.Contains(parts, n.Message) {
		parts = append(parts, n.Message)
	}
	return printable(strings.Join(append(parts, n.Arrays...), "; "))
}

// printable keeps what nodes say from steering the terminal or the table.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 {
			return ' '
		}
		return r
	}, s)
}
