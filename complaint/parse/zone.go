package parse

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a complaint names zones by their cities; the host may have no zoneinfo
)

const hour = 3600

// zoneNames are the abbreviations in use, seconds east of UTC. The first is
// what is taken; more than one means that the name is ambiguous.
// Source: the IANA time zone database, theory.html and the region files.
var zoneNames = map[string][]zoneName{
	"UTC": {{"UTC", 0}}, "GMT": {{"GMT", 0}}, "UT": {{"UT", 0}}, "WET": {{"WET", 0}}, "WEST": {{"WEST", hour}},
	"CET": {{"CET", hour}}, "MET": {{"MET", hour}}, "MEZ": {{"MEZ", hour}}, "CEST": {{"CEST", 2 * hour}}, "MEST": {{"MEST", 2 * hour}}, "MESZ": {{"MESZ", 2 * hour}},
	"EET": {{"EET", 2 * hour}}, "EEST": {{"EEST", 3 * hour}}, "MSK": {{"MSK", 3 * hour}}, "МСК": {{"MSK", 3 * hour}}, "MSD": {{"MSD", 4 * hour}}, "TRT": {{"TRT", 3 * hour}},
	"SAMT": {{"SAMT", 4 * hour}}, "YEKT": {{"YEKT", 5 * hour}}, "OMST": {{"OMST", 6 * hour}}, "KRAT": {{"KRAT", 7 * hour}}, "NOVT": {{"NOVT", 7 * hour}},
	"IRKT": {{"IRKT", 8 * hour}}, "YAKT": {{"YAKT", 9 * hour}}, "VLAT": {{"VLAT", 10 * hour}}, "MAGT": {{"MAGT", 11 * hour}}, "PETT": {{"PETT", 12 * hour}},
	"UZT": {{"UZT", 5 * hour}}, "PKT": {{"PKT", 5 * hour}}, "NPT": {{"NPT", 5*hour + 2700}}, "ICT": {{"ICT", 7 * hour}}, "WIB": {{"WIB", 7 * hour}},
	"HKT": {{"HKT", 8 * hour}}, "SGT": {{"SGT", 8 * hour}}, "AWST": {{"AWST", 8 * hour}}, "JST": {{"JST", 9 * hour}}, "KST": {{"KST", 9 * hour}},
	"ACST": {{"ACST", 9*hour + 1800}}, "AEST": {{"AEST", 10 * hour}}, "AEDT": {{"AEDT", 11 * hour}}, "NZST": {{"NZST", 12 * hour}}, "NZDT": {{"NZDT", 13 * hour}},
	"SAST": {{"SAST", 2 * hour}}, "CAT": {{"CAT", 2 * hour}}, "EAT": {{"EAT", 3 * hour}}, "WAT": {{"WAT", hour}},
	"BRT": {{"BRT", -3 * hour}}, "BRST": {{"BRST", -2 * hour}}, "ART": {{"ART", -3 * hour}}, "CLT": {{"CLT", -4 * hour}}, "CLST": {{"CLST", -3 * hour}},
	"COT": {{"COT", -5 * hour}}, "PET": {{"PET", -5 * hour}}, "VET": {{"VET", -4 * hour}}, "UYT": {{"UYT", -3 * hour}},
	"PDT": {{"PDT", -7 * hour}}, "MDT": {{"MDT", -6 * hour}}, "HST": {{"HST", -10 * hour}}, "AKST": {{"AKST", -9 * hour}}, "AKDT": {{"AKDT", -8 * hour}}, "NDT": {{"NDT", -9000}},
	// Ambiguous ones, the one that more people live in, or that software writes
	// more often, first.
	"IST": {{"IST (India)", 5*hour + 1800}, {"IST (Israel)", 2 * hour}, {"IST (Ireland)", hour}},
	"CST": {{"CST (North America)", -6 * hour}, {"CST (China)", 8 * hour}, {"CST (Cuba)", -5 * hour}},
	"CDT": {{"CDT (North America)", -5 * hour}, {"CDT (Cuba)", -4 * hour}},
	"EST": {{"EST (North America)", -5 * hour}, {"EST (Australia)", 10 * hour}},
	"EDT": {{"EDT (North America)", -4 * hour}, {"EDT (Australia)", 11 * hour}},
	"BST": {{"BST (Britain)", hour}, {"BST (Bangladesh)", 6 * hour}},
	"PST": {{"PST (North America)", -8 * hour}, {"PST (Philippines)", 8 * hour}},
	"MST": {{"MST (North America)", -7 * hour}, {"MST (Malaysia)", 8 * hour}, {"MST (Myanmar)", 6*hour + 1800}},
	"AST": {{"AST (Atlantic)", -4 * hour}, {"AST (Arabia)", 3 * hour}},
	"ADT": {{"ADT (Atlantic)", -3 * hour}, {"ADT (Arabia)", 4 * hour}},
	"AMT": {{"AMT (Amazon)", -4 * hour}, {"AMT (Armenia)", 4 * hour}},
	"GST": {{"GST (Gulf)", 4 * hour}, {"GST (South Georgia)", -2 * hour}},
	"WST": {{"WST (Western Australia)", 8 * hour}, {"WST (Samoa)", 13 * hour}},
}

type zoneName struct {
	name   string
	offset int
}

// zoneOf is a zone as read: where it stands, and what else it may mean.
type zoneOf struct {
	name   string
	loc    *time.Location
	others []zoneName
}

func (z zoneOf) ok() bool { return z.loc != nil }

func fixed(name string, offset int) *time.Location { return time.FixedZone(name, offset) }

// offsetName writes an offset as people do.
func offsetName(s int) string {
	sign := '+'
	if s < 0 {
		sign, s = '-', -s
	}
	return fmt.Sprintf("%c%02d:%02d", sign, s/hour, s%hour/60)
}

// maxOffset is the farthest zone there is, and a day line's other side.
const maxOffset = 14 * hour

var utcOffset = regexp.MustCompile(`^(?:(?:UTC|GMT|UT)\s*)?([+\-−])\s?(\d{1,2})(?::?([0-5]\d))?$`)

// parseZone reads a zone that stands alone: an offset, an abbreviation, a city.
func parseZone(s string) zoneOf {
	s = strings.TrimSpace(s)
	if s == "" || len(s) > 40 {
		return zoneOf{}
	}
	if m := utcOffset.FindStringSubmatch(strings.ToUpper(s)); m != nil {
		h, _ := strconv.Atoi(m[2]) // two digits at most
		min, _ := strconv.Atoi(m[3])
		off := h*hour + min*60
		if m[1] != "+" {
			off = -off
		}
		if off < -maxOffset || off > maxOffset {
			return zoneOf{}
		}
		return zoneOf{name: s, loc: fixed(offsetName(off), off)}
	}
	if s == "Z" || s == "z" {
		return zoneOf{name: "Z", loc: time.UTC}
	}
	if l := zoneNames[strings.ToUpper(s)]; l != nil {
		return zoneOf{name: s, loc: fixed(l[0].name, l[0].offset), others: l[1:]}
	}
	if strings.Contains(s, "/") { // a zone of the database is always a path; "Local" is none of them
		if loc, err := time.LoadLocation(s); err == nil {
			return zoneOf{name: s, loc: loc}
		}
	}
	return zoneOf{}
}

// ParseZone reads a zone as the desk may give it: +03:00, UTC+3, MSK or
// Europe/Moscow. An ambiguous abbreviation is an error that names its readings.
func ParseZone(s string) (*time.Location, error) {
	z := parseZone(s)
	switch {
	case !z.ok():
		return nil, fmt.Errorf("time zone %q is not known; write an offset such as +03:00, or a city such as Europe/Moscow", clip(s, 60))
	case len(z.others) > 0:
		names := []string{z.loc.String() + " is " + offsetOf(z.loc)}
		for _, o := range z.others {
			names = append(names, o.name+" is "+offsetName(o.offset))
		}
		return nil, fmt.Errorf("time zone %q has several meanings: %s; write the offset", s, strings.Join(names, ", "))
	}
	return z.loc, nil
}

func offsetOf(l *time.Location) string {
	_, off := time.Unix(0, 0).In(l).Zone()
	return offsetName(off)
}

const zoneExpr = `((?:UTC|GMT)\s?[+\-−]\s?\d{1,2}(?::?[0-5]\d)?|[+\-−]\d{2}:?[0-5]\d|[A-Z][A-Za-z]+/[A-Z][A-Za-z_]+(?:/[A-Z][A-Za-z_]+)?|[A-Z]{2,5}|МСК)\b`

// statements are the sentences by which complaints say which zone their times
// are in, in the languages that they come in.
var statements = []*regexp.Regexp{
	regexp.MustCompile(`(?:(?i:time ?-?zone|\btz|zeitzone|часовой пояс|fuso hor[aá]rio|zona horaria|fuseau horaire)(?i:\s+(?:is|of\b[^:=]{0,30}|used|ist|est|[eé])\s*)?\s*[:=]?\s*\(?\s*)` + zoneExpr),
	regexp.MustCompile(`(?:(?i:\b(?:time ?stamps?|times?|dates?|logs?|log entries|zeiten|zeitangaben|zeitstempel|время|hor[aá]rios?|horas?|heures?)\b)[^.:;|,]{0,40}?(?i:\b(?:are|is|in|as|sind|ist|указано|указаны|по|em|en|s[aã]o)\b|\()[^.:;|,]{0,20}?\(?\s*)` + zoneExpr),
	regexp.MustCompile(`(?:(?i:\b(?:time ?stamp|time|date|datetime|date/time|время)\b)\s*\[?\(?\s*)` + zoneExpr + `\s*[\])]`),
}

var moscow = regexp.MustCompile(`(?i)московск|moscow time|brasilia time|hor[aá]rio de bras[ií]lia|mitteleurop`)

// zoneHint reports whether a line has one of the words that the statements
// need, in the cases that people write them in.
func zoneHint(line string) bool {
	for _, w := range []string{"ime", "IME", "tz", "TZ", "eit", "ремя", "ремен", "пояс", "ПОЯС", "orár", "orar", "hora", "Hora", "eure", "uso hor", "ona hor", "ate", "ATE", "og", "LOG", "осковск", "itteleurop", "rasilia", "rasília", "tamp"} {
		if strings.Contains(line, w) {
			return true
		}
	}
	return false
}

// statement finds the sentence of a line that says which zone times are in.
func statement(line string) zoneOf {
	if len(line) > 400 || !zoneHint(line) {
		return zoneOf{}
	}
	for _, re := range statements {
		for _, m := range re.FindAllStringSubmatch(line, 4) {
			if z := parseZone(m[1]); z.ok() {
				return z
			}
		}
	}
	switch m := strings.ToLower(moscow.FindString(line)); {
	case m == "":
	case m[0] == 'b' || m[0] == 'h':
		return zoneOf{name: m, loc: fixed("BRT", -3*hour)}
	case strings.HasPrefix(m, "mittel"):
		loc, _ := time.LoadLocation("Europe/Berlin") // embedded: cannot fail
		return zoneOf{name: "Europe/Berlin", loc: loc}
	default:
		return zoneOf{name: "MSK", loc: fixed("MSK", 3*hour)}
	}
	return zoneOf{}
}
