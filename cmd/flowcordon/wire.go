package main

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/flowcordon/flowcordon/cmd/flowcordon/config"
	"github.com/flowcordon/flowcordon/collector"
	"github.com/flowcordon/flowcordon/collector/aggregate"
	"github.com/flowcordon/flowcordon/collector/decode"
	"github.com/flowcordon/flowcordon/flow"
	"github.com/flowcordon/flowcordon/inventory"
)

// newLogger writes JSON lines, or plain ones on a terminal. Zap's sampling,
// which drops repeated lines, stays off: what repeats is limited where it arises.
func newLogger(c config.Log, w io.Writer) (*zap.Logger, error) {
	level, err := zapcore.ParseLevel(c.Level)
	if err != nil {
		return nil, err
	}
	format := c.Format
	if format == "" {
		format = "json"
		if f, ok := w.(*os.File); ok {
			if st, err := f.Stat(); err == nil && st.Mode()&os.ModeCharDevice != 0 {
				format = "console"
			}
		}
	}
	ec := zap.NewProductionEncoderConfig()
	ec.TimeKey = "time"
	ec.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	ec.EncodeDuration = zapcore.StringDurationEncoder
	enc := zapcore.NewJSONEncoder(ec)
	if format == "console" {
		ec.EncodeTime = zapcore.TimeEncoderOfLayout("15:04:05.000")
		enc = zapcore.NewConsoleEncoder(ec)
	}
	return zap.New(zapcore.NewCore(enc, zapcore.Lock(zapcore.AddSync(w)), level)), nil
}

func collectorConfig(c config.Config) collector.Config {
	out := collector.Config{
		Allow:         config.Plain(c.Exporters.Allow),
		FlushInterval: c.Collector.FlushInterval,
		StateFile:     filepath.Join(c.DataDir, "templates.state"),
		ReadBuffer:    c.Collector.ReadBuffer,
		Workers:       c.Collector.Workers,
		Decode:        decodeConfig(c),
		Aggregate:     aggregateConfig(c),
	}
	for _, l := range c.Listen {
		kind := decode.KindNetFlow
		if l.Protocol == "sflow" {
			kind = decode.KindSFlow
		}
		out.Listen = append(out.Listen, collector.Listen{Protocol: kind, Address: l.Address})
	}
	return out
}

func decodeConfig(c config.Config) decode.Config {
	out := decode.Config{Inner: c.Collector.InnerHeaders}
	for _, r := range c.Exporters.Sampling {
		out.Sampling = append(out.Sampling, decode.SamplingRule{Exporter: r.Exporter.Prefix, Default: r.Default, Override: r.Override})
	}
	return out
}

func aggregateConfig(c config.Config) aggregate.Config {
	out := aggregate.Config{
		Internal:     config.Plain(c.Networks.Internal),
		V6TenantBits: c.Networks.IPv6TenantPrefix,
		Lateness:     c.Collector.Lateness,
		MaxAge:       c.Collector.MaxAge,
		MaxKeys:      c.Collector.MaxKeys,
		FlowPolicy:   aggregate.FlowPolicy(c.Store.FlowPolicy),
	}
	if c.Networks.Bogons != nil {
		out.Bogons = config.Plain(*c.Networks.Bogons)
	}
	for _, e := range c.Networks.External {
		for _, i := range e.Interfaces {
			out.External = append(out.External, aggregate.Interface{Exporter: e.Exporter, IfIndex: i})
		}
	}
	return out
}

// checkReferences looks at the files that a configuration names. The warning
// is for people; it stops nothing.
func checkReferences(file string, c config.Config) (warning string, err error) {
	inv, err := openInventory(c, inventory.Deps{}, true)
	if err != nil {
		return "", fmt.Errorf("%s: %w", file, err)
	}
	return inventoryWarning(c, inv), errors.Join(checkInventory(c, inv), checkSuspenders(file, c))
}

// checkInventory makes sure that every hypervisor of the inventory can be
// called, wherever a rule may act: a typing error there must not be found out
// at night.
func checkInventory(c config.Config, inv *inventory.Inventory) error {
	acts := false
	for _, r := range c.Detect.Rules {
		acts = acts || r.Mode == flow.ModeEnforce || r.Mode == flow.ModeApprove
	}
	if !acts {
		return nil
	}
	known := make([]string, 0, len(c.Respond.Suspenders))
	for _, s := range c.Respond.Suspenders {
		known = append(known, s.Name)
	}
	var errs []error
	for _, h := range inv.Hypervisors() {
		if !slices.Contains(known, h) {
			errs = append(errs, fmt.Errorf("%s: hypervisor %q is not in respond.suspenders (there: %s)",
				c.Inventory.File, h, strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}

// finerThanTenants warns of IPv6 entries below what is judged as one tenant;
// empty: there are none.
func finerThanTenants(c config.Config, inv *inventory.Inventory) string {
	bits := c.Networks.IPv6TenantPrefix
	finer := inv.Finer(bits)
	if len(finer) == 0 {
		return ""
	}
	return fmt.Sprintf("%d IPv6 entries are longer than networks.ipv6_tenant_prefix (/%d), the first is %s: a /%d is judged as one tenant, "+
		"and only who holds its first address is found; write /%d entries, or raise ipv6_tenant_prefix", len(finer), bits, finer[0], bits, bits)
}

func clientTLS(c config.TLS) (*tls.Config, error) {
	out := &tls.Config{ServerName: c.ServerName, MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, err
		}
		out.RootCAs = x509.NewCertPool()
		if !out.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate in PEM form", c.CAFile)
		}
	}
	if c.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, err
		}
		out.Certificates = []tls.Certificate{pair}
	}
	return out, nil
}

// httpClient trusts the CAs of a PEM file; nil, the default client, without one.
func httpClient(caFile string) (*http.Client, error) {
	if caFile == "" {
		return nil, nil
	}
	t, err := clientTLS(config.TLS{CAFile: caFile})
	if err != nil {
		return nil, err
	}
	return &http.Client{
		Transport:     &http.Transport{TLSClientConfig: t},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}
