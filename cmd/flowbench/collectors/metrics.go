package collectors

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
)

// samples are a scrape in Prometheus' text format: series → value.
type samples map[string]float64

func scrape(ctx context.Context, url string) (samples, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	out := samples{}
	for line := range strings.Lines(string(b)) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: %w", url, line, err)
		}
		out[line[:i]] = v
	}
	return out, nil
}

// sum adds up the series of a name whose labels contain text. found is false
// if there are none.
func (s samples) sum(name, text string) (total uint64, found bool) {
	for series, v := range s {
		n, labels, _ := strings.Cut(series, "{")
		if n == name && strings.Contains(labels, text) {
			total += uint64(v)
			found = true
		}
	}
	return total, found
}
