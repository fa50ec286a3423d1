package bundle

import (
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/flowcordon/flowcordon/flow"
)

// The pictures' size, and the plot in it, in SVG's pixels.
const (
	width, height              = 960, 360
	left, right, top, bottom   = 90, 20, 56, 48
	plotW, plotH               = width - left - right, height - top - bottom
	maxDots                    = 4000 // a picture of more is a black field of 1 MB
	defaultStep                = flow.WindowSeconds * time.Second
	maxPoints                  = 2000
	marginBefore, marginBehind = 60 * time.Second, 60 * time.Second
)

// span is the time that a picture shows.
type span struct{ from, to time.Time }

func (s span) x(t time.Time) float64 {
	return left + float64(t.Sub(s.from))/float64(max(s.to.Sub(s.from), time.Second))*plotW
}

// canvas is a picture under way.
type canvas struct {
	strings.Builder
	at span
}

// newCanvas begins a picture: title and text for those who cannot see it, and
// colours that hold on light and dark grounds.
func newCanvas(title, about string, at span) *canvas {
	c := &canvas{at: at}
	c.f(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" width="%d" height="%d" role="img" aria-labelledby="t d">
<title id="t">%s</title>
<desc id="d">%s</desc>
<style>text{font:12px sans-serif;fill:#24292e}.h{font-size:15px;font-weight:bold}.a{stroke:#57606a;fill:none}.g{stroke:#d0d7de}.v{fill:#0969da;fill-opacity:.75}.c{stroke:#cf222e;stroke-width:2;stroke-dasharray:6 4}.k{fill:#cf222e;font-weight:bold}.b{fill:#fff}</style>
<rect class="b" width="%d" height="%d"/>
<text class="h" x="%d" y="22">%s</text>
<text x="%d" y="41">%s</text>
`, width, height, width, height, escape(title), escape(about), width, height, left, escape(title), left, escape(about))
	return c
}

var escaper = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;", "'", "&#39;")

// escape makes text harmless in XML, which has no place for control characters.
func escape(s string) string { return escaper.Replace(comment(strings.ToValidUTF8(s, "?"))) }

// axes draws both axes with round values, for 0 to most.
func (c *canvas) axes(most float64, label string) {
	step := round(most/5 - 1e-9)
	for v := 0.0; v <= most+step/1e6; v += step {
		y := c.y(v, most)
		c.f(`<line class="g" x1="%d" y1="%.1f" x2="%d" y2="%.1f"/><text x="%d" y="%.1f" text-anchor="end">%s</text>`+"\n", left, y, left+plotW, y, left-8, y+4, short(v))
	}
	ticks := []time.Duration{time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute, 2 * time.Minute, 5 * time.Minute, 10 * time.Minute, 30 * time.Minute, time.Hour, 2 * time.Hour, 6 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour}
	length := c.at.to.Sub(c.at.from)
	tick := ticks[len(ticks)-1]
	for _, t := range ticks {
		if length/t <= 8 {
			tick = t
			break
		}
	}
	n := 0
	for t := c.at.from.Truncate(tick).Add(tick); !t.After(c.at.to) && n < 20; t = t.Add(tick) {
		n++
		x := c.at.x(t)
		c.f(`<line class="a" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text x="%.1f" y="%d" text-anchor="middle">%s</text>`+"\n", x, top+plotH, x, top+plotH+5, x, top+plotH+20, t.UTC().Format("15:04:05"))
	}
	c.f(`<polyline class="a" points="%d,%d %d,%d %d,%d"/>`+"\n", left, top, left, top+plotH, left+plotW, top+plotH)
	c.f(`<text x="%d" y="%d" text-anchor="middle">UTC, %s</text><text transform="translate(16 %d) rotate(-90)" text-anchor="middle">%s</text>`+"\n",
		left+plotW/2, height-8, c.at.from.UTC().Format(time.DateOnly), top+plotH/2, escape(label))
}

func (c *canvas) y(v, most float64) float64 {
	return top + plotH - math.Min(math.Max(v/math.Max(most, 1e-9), 0), 1)*plotH
}

// marks draws when measures came into force and when they were given back.
func (c *canvas) marks(inc flow.Incident) {
	mark := func(t time.Time, what string) {
		if t.IsZero() || t.Before(c.at.from) || t.After(c.at.to) {
			return
		}
		x := c.at.x(t)
		anchor, dx := "start", 5.0
		if x > left+plotW-120 {
			anchor, dx = "end", -5
		}
		c.f(`<line class="c" x1="%.1f" y1="%d" x2="%.1f" y2="%d"/><text class="k" x="%.1f" y="%d" text-anchor="%s">%s %s</text>`+"\n", x, top, x, top+plotH, x+dx, top+12, anchor, escape(what), t.UTC().Format(time.TimeOnly))
	}
	if a := inc.Action; a != nil {
		mark(a.Done, map[flow.MeasureKind]string{flow.MeasureCut: "cut", flow.MeasureBlockPort: "port blocked", flow.MeasureLimit: "limited"}[a.Taken()])
	}
	if inc.Restore != nil {
		mark(inc.Restore.Done, "given back")
	}
}

// f writes; a strings.Builder does not fail.
func (c *canvas) f(format string, args ...any) { _, _ = fmt.Fprintf(&c.Builder, format, args...) }

func (c *canvas) end() string {
	c.WriteString("</svg>\n")
	return c.String()
}

// round is the next of 1, 2 and 5 times a power of ten.
func round(v float64) float64 {
	if v <= 0 || math.IsInf(v, 0) || math.IsNaN(v) {
		return 1
	}
	p := math.Pow(10, math.Floor(math.Log10(v)))
	for _, m := range []float64{1, 2, 5} {
		if m*p >= v*0.999999 {
			return m * p
		}
	}
	return 10 * p
}

// ceiling is where an axis to v ends: at one of its lines, of which it has five
// at most.
func ceiling(v float64) float64 {
	step := round(v / 5)
	return math.Max(math.Ceil(v/step-1e-9)*step, step)
}

func short(v float64) string {
	for _, u := range []struct {
		by   float64
		name string
	}{{1e9, "G"}, {1e6, "M"}, {1e3, "k"}} {
		if v >= u.by {
			return fmt.Sprintf("%.3g%s", v/u.by, u.name)
		}
	}
	return fmt.Sprintf("%.3g", v)
}

// point is a rate from its time on, for one step.
type point struct {
	at time.Time
	v  float64
}

// packetsSVG is packets per second that the tenant sent.
func packetsSVG(in Input) string {
	points, step, source := series(in)
	title := fmt.Sprintf("Packets per second sent by %s, incident %s", in.Incident.Tenant, in.Incident.ID)
	if len(points) == 0 {
		return blank(title)
	}
	at := span{points[0].at, points[len(points)-1].at.Add(step)}
	most := 0.0
	for _, p := range points {
		most = math.Max(most, p.v)
	}
	most = ceiling(most)
	c := newCanvas(title, fmt.Sprintf("%s, averages over %s, highest %s/s", source, step, short(highest(points))), at)
	c.axes(most, "packets/s")
	for _, p := range points {
		if p.v > 0 {
			x, w := at.x(p.at), math.Max(at.x(p.at.Add(step))-at.x(p.at), 0.5)
			y := c.y(p.v, most)
			c.f(`<rect class="v" x="%.1f" y="%.1f" width="%.1f" height="%.1f"/>`+"\n", x, y, w, top+plotH-y)
		}
	}
	c.marks(in.Incident)
	return c.end()
}

func highest(points []point) (most float64) {
	for _, p := range points {
		most = math.Max(most, p.v)
	}
	return most
}

// series is what is drawn: the tenant's own series, or the sum of the rows.
func series(in Input) (points []point, step time.Duration, source string) {
	type sample struct {
		ns int64
		v  float64 // packets
	}
	var samples []sample
	if len(in.Series) > 0 && in.Step > 0 {
		step, source = in.Step, "All that the server sent, estimated from samples"
		for _, p := range in.Series {
			samples = append(samples, sample{p.Time.UnixNano(), float64(p.EstOutPackets)})
		}
	} else {
		step, source = defaultStep, "The flow rows behind the findings, scaled by their sampling rates"
		for _, r := range in.Flows {
			if r.Dir == flow.Out {
				samples = append(samples, sample{r.Time, float64(r.Packets) * float64(max(r.Rate, 1))})
			}
		}
	}
	if len(samples) == 0 {
		return nil, step, ""
	}
	from, to := samples[0].ns, samples[0].ns
	for _, s := range samples {
		from, to = min(from, s.ns), max(to, s.ns)
	}
	if in.Shown.From.Before(in.Shown.To) {
		from, to = in.Shown.From.UnixNano(), in.Shown.To.UnixNano()-1
	} else {
		from -= int64(marginBefore)
		if a := in.Incident.Action; a != nil && !a.Done.IsZero() { // what nothing was seen of is shown as nothing
			to = max(to, min(a.Done.Add(marginBehind).UnixNano(), to+int64(time.Hour)))
		}
	}
	if n := (to - from) / int64(step); n > maxPoints {
		step *= time.Duration(n/maxPoints + 1)
	}
	sums := map[int64]float64{}
	for _, s := range samples {
		sums[s.ns/int64(step)] += s.v
	}
	for k := from / int64(step); k <= to/int64(step); k++ {
		points = append(points, point{time.Unix(0, k*int64(step)).UTC(), sums[k] / step.Seconds()})
	}
	return points, step, source
}

// destinationsSVG is a dot for each outgoing row: time across, and upwards the
// destinations in the order of their addresses, so that a sweep is a slope and a
// flood a line.
func destinationsSVG(in Input) string {
	title := fmt.Sprintf("Destinations of %s over time, incident %s", in.Incident.Tenant, in.Incident.ID)
	var rows []flow.FlowRow
	var remotes []netip.Addr
	for _, r := range in.Flows {
		if r.Dir == flow.Out && r.Remote.IsValid() {
			rows, remotes = append(rows, r), append(remotes, r.Remote)
		}
	}
	if len(rows) == 0 {
		return blank(title)
	}
	slices.SortFunc(remotes, netip.Addr.Compare)
	remotes = slices.Compact(remotes)
	at := span{time.Unix(0, rows[0].Time).UTC(), time.Unix(0, rows[len(rows)-1].Time).UTC()}
	if a := in.Incident.Action; a != nil && a.Done.After(at.to) && a.Done.Sub(at.to) < time.Hour {
		at.to = a.Done.UTC().Add(marginBehind)
	}
	if at.to.Sub(at.from) < 10*time.Second {
		at.to = at.from.Add(10 * time.Second)
	}
	shown := fmt.Sprintf("%d flow rows to %d addresses", len(rows), len(remotes))
	every := (len(rows) + maxDots - 1) / maxDots
	if every > 1 {
		shown += fmt.Sprintf(", one dot for every %d rows", every)
	}
	c := newCanvas(title, shown, at)
	most := ceiling(float64(len(remotes)))
	c.axes(most, "destination, by address")
	for i, r := range rows {
		if i%every == 0 {
			n, _ := slices.BinarySearchFunc(remotes, r.Remote, netip.Addr.Compare)
			c.f(`<circle class="v" cx="%.1f" cy="%.1f" r="1.5"/>`+"\n", at.x(time.Unix(0, r.Time)), c.y(float64(n)+0.5, most))
		}
	}
	c.marks(in.Incident)
	return c.end()
}

// blank says that there is nothing to draw, instead of drawing a zero.
func blank(title string) string {
	c := newCanvas(title, "No flow rows are stored for this incident.", span{})
	return c.end()
}
