package complaint

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// maxDraftLines that the reply goes through one by one; a longer complaint is
// summed up, which reads better too.
const maxDraftLines = 60

// draft writes the reply to the reporter, in both languages. It holds what the
// reporter sent and what our data says of that, nothing of who the customer is,
// what else the host did, or whom else it talked to.
func (r *run) draft() Draft {
	ref := oneLine(r.res.Subject, 150)
	if ref == "" {
		ref = "your report"
		if r.res.ReportID != "" {
			ref = oneLine(r.res.ReportID, 100)
		}
	}
	if !strings.HasPrefix(strings.ToLower(ref), "re:") {
		ref = "Re: " + ref
	}
	return Draft{Subject: ref, EN: r.letter(english), RU: r.letter(russian)}
}

// wording of the reply in one language.
type wording struct {
	ru                                           bool
	hello, id, none, counts, lines, rest, unread string
	zone, acted, working, bye, shared, coarse    string
	verdict                                      map[Verdict]string
}

var english = wording{
	hello: "Hello,\n\nthank you for your report. We have compared it with the flow data of our network. All times below are UTC.\n",
	id:    "Your reference: %s\n", none: "None of the lines could be read as an observation with a time and an address, so that there is nothing to compare. Please send the log lines as text, with the time zone, the source and the destination address and port.\n",
	counts: "Result", lines: "Line by line:\n", rest: "… and %d more lines; the sums above include them.\n",
	unread: "%d line(s) could not be read and are not included. The first: line %d, %s.\n",
	zone:   "The report does not say clearly which time zone its times are in; we read them as %s. Please tell us if that is wrong.\n",
	coarse: "Some of the lines are so old that we no longer store single flows of that time. They were compared with sums, which tell neither the second nor the source port.\n",
	acted:  "The network access of %s has been suspended.\n", working: "%s is already being dealt with on our side.\n",
	shared: "%s is used by several of our customers at once. To tell them apart we need the source port and the time to the second of each connection.\n",
	bye:    "\nKind regards\nAbuse desk\n",
	verdict: map[Verdict]string{Confirmed: "confirmed by our data", Shifted: "found, but at another time", Contradicted: "not in our data, although it would have been seen",
		NotVisible: "neither shown nor excluded by our data", NoData: "no data of that time", UnknownHolder: "ours, user at that time not known", NotOurs: "not in our networks"},
}

var russian = wording{
	ru:    true,
	hello: "Здравствуйте!\n\nСпасибо за сообщение. Мы сравнили его с данными о потоках в нашей сети. Всё время ниже — UTC.\n",
	id:    "Ваш номер: %s\n", none: "Ни одну строку не удалось прочитать как наблюдение со временем и адресом, сравнивать нечего. Пришлите, пожалуйста, строки журнала текстом: с часовым поясом, адресом и портом источника и назначения.\n",
	counts: "Итог", lines: "По строкам:\n", rest: "… и ещё строк: %d; в итоге выше они учтены.\n",
	unread: "Не удалось прочитать строк: %d, они не учтены. Первая: строка %d, %s.\n",
	zone:   "Часовой пояс в сообщении указан неясно; мы прочли время как %s. Сообщите, пожалуйста, если это не так.\n",
	coarse: "Часть строк так стара, что отдельные потоки за то время у нас уже не хранятся. Они сверены с суммами, где нет ни точной секунды, ни порта источника.\n",
	acted:  "Доступ адреса %s к сети приостановлен.\n", working: "По адресу %s мы уже принимаем меры.\n",
	shared: "Адресом %s одновременно пользуются несколько наших клиентов. Чтобы их различить, нужны порт источника и время каждого соединения с точностью до секунды.\n",
	bye:    "\nС уважением,\nслужба обработки жалоб\n",
	verdict: map[Verdict]string{Confirmed: "подтверждено нашими данными", Shifted: "найдено, но в другое время", Contradicted: "в наших данных нет, хотя было бы видно",
		NotVisible: "нашими данными не показано и не исключено", NoData: "данных за это время нет", UnknownHolder: "адрес наш, пользователь в то время не известен", NotOurs: "не наши сети"},
}

func (r *run) letter(w wording) string {
	var b strings.Builder
	b.WriteString(w.hello)
	if r.res.ReportID != "" {
		fmt.Fprintf(&b, w.id, oneLine(r.res.ReportID, 120))
	}
	b.WriteByte('\n')
	if len(r.res.Lines) == 0 {
		b.WriteString(w.none)
	} else {
		r.summary(&b, w)
		r.lines(&b, w)
	}
	if n := r.res.UnreadCount; n > 0 && len(r.res.Unread) > 0 {
		u := r.res.Unread[0]
		fmt.Fprintf(&b, "\n"+w.unread, n, u.Line, reason(u.Reason, w.ru))
	}
	b.WriteString(w.bye)
	return b.String()
}

func (r *run) summary(b *strings.Builder, w wording) {
	fmt.Fprintf(b, "%s:\n", w.counts)
	for _, v := range verdicts {
		if n := r.res.Counts[v]; n > 0 {
			fmt.Fprintf(b, "  %4d  %s\n", n, w.verdict[v])
		}
	}
	b.WriteByte('\n')
	if s := r.res.Skew; s != nil {
		if w.ru {
			b.WriteString(s.TextRU + "\n\n")
		} else {
			b.WriteString(s.Text + "\n\n")
		}
	}
	if slices.ContainsFunc(r.res.Lines, func(l Line) bool { return l.Traffic.coarse() }) {
		b.WriteString(w.coarse + "\n")
	}
	for _, l := range r.res.Lines {
		if !l.Zone.Known() && l.Traffic.Verdict != NotOurs {
			fmt.Fprintf(b, w.zone, oneLine(l.Zone.Name, 40))
			b.WriteByte('\n')
			break
		}
	}
	r.acts(b, w)
}

// acts says what is done about an address, once for each. That an incident is
// open is said only where the flows of this report are part of it.
func (r *run) acts(b *strings.Builder, w wording) {
	done := map[netip.Addr]bool{}
	for _, c := range r.res.Cases {
		if done[c.Host] {
			continue
		}
		if c.Shared {
			fmt.Fprintf(b, w.shared, c.Host)
			done[c.Host] = true
		}
		if c.Incident == nil || c.Shared || c.Counts[Confirmed]+c.Counts[Shifted] == 0 {
			continue
		}
		done[c.Host] = true
		if c.Incident.State.Cut() {
			fmt.Fprintf(b, w.acted, c.Host)
		} else if c.Incident.State.Live() {
			fmt.Fprintf(b, w.working, c.Host)
		}
	}
	if len(done) > 0 {
		b.WriteByte('\n')
	}
}

func (r *run) lines(b *strings.Builder, w wording) {
	b.WriteString(w.lines)
	for i := range r.res.Lines {
		if i == maxDraftLines {
			fmt.Fprintf(b, w.rest, len(r.res.Lines)-i)
			return
		}
		l := &r.res.Lines[i]
		text := l.Text
		if w.ru {
			text = l.TextRU
		}
		fmt.Fprintf(b, "%d. %s  %s -> %s\n   %s: %s\n", i+1, l.Time.Format(stampForm), end(l.Src.Addr, l.Src.Prefix, l.Src.Port), end(l.Dst.Addr, l.Dst.Prefix, l.Dst.Port),
			w.verdict[l.Verdict], text)
		for _, n := range l.Notes {
			if toReporter[n.Code] {
				note := n.EN
				if w.ru {
					note = n.RU
				}
				fmt.Fprintf(b, "   %s\n", note)
			}
		}
	}
}

// toReporter are the notes that a reporter should read; the others are about
// our customers, or for the desk.
var toReporter = map[string]bool{"reading": true, "answers": true, "server_side": true, "forged": true, "no_target": true, "future": true}

func end(a netip.Addr, p netip.Prefix, port uint16) string {
	s := "?"
	switch {
	case a.IsValid():
		s = a.String()
	case p.IsValid():
		s = p.String()
	}
	if port == 0 {
		return s
	}
	if a.Is6() {
		s = "[" + s + "]"
	}
	return fmt.Sprintf("%s:%d", s, port)
}
