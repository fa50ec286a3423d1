package parse

import (
	"strings"
	"testing"
	"time"
)

var plain = frame{now: received}

// The times of the line, read with nothing known but the receipt.
func TestStamps(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"2026-11-20T10:00:01Z", "2026-11-20T10:00:01Z stated"},
		{"2026-11-20T10:00:01.123456789+01:00 x", "2026-11-20T09:00:01.123456789Z stated"},
		{"2026-11-20T10:00:01+0530", "2026-11-20T04:30:01Z stated"},
		{"2026-11-20T10:00:01-03", "2026-11-20T13:00:01Z stated"},
		{"2026-11-20 10:00:01 -0800", "2026-11-20T18:00:01Z stated"},
		{"2026-11-20 10:00:01 UTC", "2026-11-20T10:00:01Z stated"},
		{"2026-11-20 10:00:01 (UTC+3)", "2026-11-20T07:00:01Z stated"},
		{"2026-11-20 10:00:01 GMT-03:30", "2026-11-20T13:30:01Z stated"},
		{"2026-11-20 10:00:01 MSK", "2026-11-20T07:00:01Z stated"},
		{"2026-11-20 10:00:01 BRT", "2026-11-20T13:00:01Z stated"},
		{"2026-11-20 10:00:01 PDT", "2026-11-20T17:00:01Z stated"},
		{"2026-11-20 10:00:01,123 fail2ban", "2026-11-20T10:00:01.123Z assumed"},
		{"2026-11-20 10:00:01,443,tcp", "2026-11-20T10:00:01Z assumed"},
		{"2026/11/20 10:00:01 [error]", "2026-11-20T10:00:01Z assumed"},
		{"2026.11.20 10:00", "2026-11-20T10:00:00Z assumed"},
		{"[20/Nov/2026:10:00:01 +0300]", "2026-11-20T07:00:01Z stated"},
		{"20-Nov-2026 10:00:01.5", "2026-11-20T10:00:01.5Z assumed"},
		{"20 Nov 2026 10:00:01 +0200", "2026-11-20T08:00:01Z stated"},
		{"Fri, 20 Nov 2026 10:00:01 +0200 (EET)", "2026-11-20T08:00:01Z stated"},
		{"Fri Nov 20 10:00:01 2026", "2026-11-20T10:00:01Z assumed"},
		{"Fri Nov 20 10:00:01 CET 2026", "2026-11-20T09:00:01Z stated"},
		{"Fri Nov 20 10:00:01 2026 +0200", "2026-11-20T08:00:01Z stated"},
		{"Nov 20 10:00:01 host", "2026-11-20T10:00:01Z assumed"},
		{"Nov 20 2026 10:00:01: %ASA", "2026-11-20T10:00:01Z assumed"},
		{"Nov 20 10:00:01 MSK: %SEC", "2026-11-20T07:00:01Z stated"},
		{"Nov 20 10:00:01 CAT sshd", "2026-11-20T10:00:01Z assumed"}, // a host called CAT
		{"November 20, 2026 10:00:01 AM", "2026-11-20T10:00:01Z assumed"},
		{"November 20, 2026 at 10:00:01 PM UTC", "2026-11-20T22:00:01Z stated"},
		{"20.11.2026 10:00:01 MEZ", "2026-11-20T09:00:01Z stated"},
		{"20.11.2026, 10:00", "2026-11-20T10:00:00Z assumed"},
		{"11/20/2026 10:00:01 PM", "2026-11-20T22:00:01Z assumed"},
		{"11/20/2026 12:00:01 AM", "2026-11-20T00:00:01Z assumed"},
		{"20/11/2026 10:00:01", "2026-11-20T10:00:01Z assumed"},
		{"11/20-10:00:01.123456  [**]", "2026-11-20T10:00:01.123456Z assumed"},
		{"11/20/26-10:00:01.123456", "2026-11-20T10:00:01.123456Z assumed"},
		{"20261120T100001Z", "2026-11-20T10:00:01Z stated"},
		{"20261120100001", "2026-11-20T10:00:01Z assumed"},
		{"2026-12-31 23:59:60 UTC", "2027-01-01T00:00:00Z stated"},
		{"Feb 29 10:00:01 host", "2024-02-29T10:00:01Z assumed"}, // the latest that there was
		{"Dec 31 10:00:01 host", "2025-12-31T10:00:01Z assumed"},
		{"Nov 22 23:00:01 host", "2026-11-22T23:00:01Z assumed"}, // 11 h ahead: some zone's
		{"Nov 23 03:00:01 host", "2025-11-23T03:00:01Z assumed"}, // no zone's
		{"2026-02-30 10:00:01", "bad_time"},
		{"2026-11-20 25:00:01", "bad_time"},
		{"2026-11-20 10:61:01", "bad_time"},
		{"10:00:01 x", "no_date"},
		{"2026-11-20", "bad_time"},
		{"198.18.0.7", "none"},
		{"1.2.2026.4 5", "none"},
		{"pid 12345678 20:30", "none"},
		{"a12:30:11", "none"},
	} {
		t.Run(tt.text, func(t *testing.T) {
			st := findStamp(tt.text, 0)
			got := "none"
			if st.ok() {
				w, why := plain.resolve(st, nil, time.Time{})
				got = w.at.Format(time.RFC3339Nano) + " " + string(w.zone.Source)
				if why != "" {
					got = string(why)
				}
			}
			if got != tt.want {
				t.Errorf("got %s, want %s (%+v)", got, tt.want, st)
			}
		})
	}
}

func TestEpochs(t *testing.T) {
	for text, want := range map[string]string{
		"1795168801": "2026-11-20T10:00:01Z", "1795168801.25": "2026-11-20T10:00:01.25Z", "1795168801123": "2026-11-20T10:00:01.123Z",
		"1795168801123456": "2026-11-20T10:00:01.123456Z", "179516880": "", "0000000001": "", "9999999999": "", "17951688011": "", "1795168801x": "", "9999999999999999999": "",
	} {
		at, ok := epochStamp(text)
		if got := at.Format(time.RFC3339Nano); ok != (want != "") || ok && got != want {
			t.Errorf("%s: %s, %v, want %s", text, got, ok, want)
		}
	}
}

// Where the zone comes from, from the surest on.
func TestZonePrecedence(t *testing.T) {
	moscow, tokyo := parseZone("Europe/Moscow"), parseZone("Asia/Tokyo")
	mailDate := time.Date(2026, 11, 21, 10, 0, 0, 0, time.FixedZone("", -3*hour))
	all := frame{now: received, given: tokyo.loc, text: moscow, mail: mailDate}
	steps := []struct {
		name, text string
		f          frame
		fixed      *time.Location
		want       ZoneSource
		at         string
	}{
		{"the line's own", "2026-11-20 10:00:01 +0100", all, time.UTC, ZoneStated, "09:00:01"},
		{"the format's", "2026-11-20 10:00:01", all, time.UTC, ZoneFormat, "10:00:01"},
		{"given", "2026-11-20 10:00:01", all, nil, ZoneGiven, "01:00:01"},
		{"the text's", "2026-11-20 10:00:01", frame{now: received, text: moscow, mail: mailDate}, nil, ZoneText, "07:00:01"},
		{"the mail's", "2026-11-20 10:00:01", frame{now: received, mail: mailDate}, nil, ZoneMailDate, "13:00:01"},
		{"none", "2026-11-20 10:00:01", plain, nil, ZoneAssumed, "10:00:01"},
	}
	for _, s := range steps {
		w, why := s.f.resolve(findStamp(s.text, 0), s.fixed, time.Time{})
		if why != "" || w.zone.Source != s.want || w.at.Format(time.TimeOnly) != s.at {
			t.Errorf("%s: %s %s, want %s %s (%s)", s.name, w.at, w.zone.Source, s.want, s.at, why)
		}
		if said := len(w.assumed) > 0; said != (s.want != ZoneStated && s.want != ZoneFormat) {
			t.Errorf("%s: said %q", s.name, w.assumed)
		}
	}
}

func TestParseZone(t *testing.T) {
	for in, want := range map[string]int{"UTC": 0, "Z": 0, "+03:00": 3 * hour, "-0330": -3*hour - 1800, "UTC+3": 3 * hour, "GMT -5": -5 * hour, "MSK": 3 * hour, "Europe/Berlin": hour, "−3": -3 * hour} {
		z, err := ParseZone(in)
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		if _, off := time.Date(2026, 1, 1, 0, 0, 0, 0, z).Zone(); off != want {
			t.Errorf("%s: %d s, want %d", in, off, want)
		}
	}
	for in, say := range map[string]string{"IST": "several meanings", "CST": "+08:00", "Local": "not known", "+15:00": "not known", "../../etc/passwd": "not known", "": "not known", "Europe/Atlantis": "not known", strings.Repeat("x", 500): "not known"} {
		if _, err := ParseZone(in); err == nil || !strings.Contains(err.Error(), say) || len(err.Error()) > 300 {
			t.Errorf("%q: %v", in, err)
		}
	}
	for name, l := range zoneNames {
		for _, z := range l {
			if z.offset < -maxOffset || z.offset > maxOffset || z.offset%900 != 0 {
				t.Errorf("%s: %d", name, z.offset)
			}
		}
	}
}

func TestStatements(t *testing.T) {
	for text, want := range map[string]string{
		"All times are UTC+3.": "+03:00", "Timezone: Europe/Berlin": "Europe/Berlin", "All timestamps are in UTC": "+00:00", "Time zone is GMT -0500": "-05:00",
		"time (UTC)   protocol": "+00:00", "Note: Local timezone is +0100 (CET)": "+01:00", "Alle Zeiten in MEZ": "+01:00", "Часовой пояс: UTC+5": "+05:00",
		"Время московское": "+03:00", "Os horários estão em GMT-3": "-03:00", "horário de Brasília": "-03:00", "(all times given in CEST)": "+02:00",
		"Times in the log are PDT": "-07:00", "tz=+0300": "+03:00",
		"this time we mean it": "", "Times New Roman is our font": "", "It is in THE log": "", "Dear Sir or Madam": "", "the dates are OK": "",
	} {
		z := statement(text)
		got := ""
		if z.ok() {
			got = offsetOf(z.loc)
			if strings.Contains(z.name, "/") {
				got = z.name
			}
		}
		if got != want {
			t.Errorf("%q: %q, want %q", text, got, want)
		}
	}
}
