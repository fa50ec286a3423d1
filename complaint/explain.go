package complaint

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

const stampForm = "2006-01-02 15:04:05"

// percent writes a chance so that neither 0 nor 1 is claimed without need.
func percent(p float64) string {
	switch {
	case p <= 0:
		return "0 %"
	case p >= 1:
		return "100 %"
	case p < 0.001:
		return "< 0.1 %"
	case p > 0.9999:
		return "> 99.99 %"
	case p > 0.99:
		return strconv.FormatFloat(p*100, 'f', 2, 64) + " %"
	case p < 0.1:
		return strconv.FormatFloat(p*100, 'f', 1, 64) + " %"
	}
	return strconv.FormatFloat(p*100, 'f', 0, 64) + " %"
}

// explain says a line's verdict in plain words, English and Russian.
func explain(l *Line) (en, ru string) {
	en, ru = l.Traffic.words()
	if l.Verdict == UnknownHolder {
		en = "It is not known who held the address at that time. " + en
		ru = "Кому принадлежал адрес в то время, не известно. " + ru
	}
	return en, ru
}

// words of the flows' verdict.
func (t *Traffic) words() (en, ru string) {
	switch t.Verdict {
	case Confirmed, Shifted:
		return t.confirmed()
	case Contradicted:
		return t.contradicted()
	case NoData:
		return "Of that time no flow data is stored.", "За это время данных о потоках нет."
	case NotOurs:
		return "None of the addresses is in our networks.", "Ни один из адресов не из наших сетей."
	}
	return t.notVisible()
}

var shownWords = map[Why][2]string{
	WhyExact:  {"exactly this connection, both ports included", "именно это соединение, включая оба порта"},
	WhyPort:   {"traffic to this address and port", "обмен с этим адресом и портом"},
	WhyRemote: {"traffic to this address", "обмен с этим адресом"},
}

func (t *Traffic) confirmed() (en, ru string) {
	span := t.First.Format(stampForm)
	if t.Last.Sub(t.First) >= time.Second {
		span += " – " + t.Last.Format(stampForm)
	}
	en, ru = fmt.Sprintf("flows: %d, %s UTC", t.Rows, span), fmt.Sprintf("потоков: %d, %s UTC", t.Rows, span)
	// Of a few sampled packets no total can be told: its error is one part in
	// the square root of their number.
	if t.Rate == 1 || t.Rows >= 10 {
		en += fmt.Sprintf(", about %s sent", packets(t.Packets))
		ru += fmt.Sprintf(", отправлено около %d пакетов", t.Packets)
	}
	switch t.Why {
	case WhyService:
		// No numbers: they would be about others than the reporter.
		en = "Our flow data shows the host as a client of such a service at that time."
		ru = "По нашим данным о потоках хост в это время обращался к такому сервису."
		if t.coarse() {
			en, ru = t.bySumsOf("show the host as a client of such a service between "+span+" UTC.", "показывают, что хост между "+span+" UTC обращался к такому сервису.")
		}
	case WhyPair:
		en, ru = t.bySumsOf("show traffic between the two addresses, "+span+" UTC"+t.about("en")+".", "показывают обмен между этими адресами, "+span+" UTC"+t.about("ru")+".")
	case WhyTried:
		en, ru = t.bySumsOf("show that the host tried this address on this service, "+span+" UTC.", "показывают, что хост обращался к этому адресу и сервису, "+span+" UTC.")
	default:
		if t.coarse() {
			en, ru = t.bySumsOf("show it, "+span+" UTC.", "это показывают, "+span+" UTC.")
			break
		}
		what, ok := shownWords[t.Why]
		if !ok {
			what = [2]string{"it", "это"}
		}
		en = "Our flow data shows " + what[0] + " (" + en + ")."
		ru = "Наши данные о потоках показывают " + what[1] + " (" + ru + ")."
	}
	if t.Verdict == Shifted && t.Why == WhyOffset {
		en = "Not at the time as written, but with the offset of the clock named above: " + en
		ru = "Не в указанное время, но с названным выше сдвигом часов: " + ru
	}
	if t.Verdict == Shifted && t.Why == WhyReading {
		en = "Not at the time as first read, but at another reading of it: " + en
		ru = "Не при первом прочтении времени, но при другом: " + ru
	}
	return en, ru
}

// coarse reports whether only sums were looked at.
func (t *Traffic) coarse() bool {
	return t.Resolution == ResolutionWindow || t.Resolution == ResolutionHour
}

// about says how many packets a sum stands for, where it can be told.
func (t *Traffic) about(lang string) string {
	if t.Packets == 0 || t.Rate > 1 && t.Packets < 10*uint64(t.Rate) {
		return ""
	}
	if lang == "ru" {
		return fmt.Sprintf(", отправлено около %d пакетов", t.Packets)
	}
	return fmt.Sprintf(", about %s sent", packets(t.Packets))
}

func packets(n uint64) string {
	if n == 1 {
		return "1 packet"
	}
	return strconv.FormatUint(n, 10) + " packets"
}

// bySumsOf says of which sums it is the word, and that nothing finer is left.
func (t *Traffic) bySumsOf(en, ru string) (string, string) {
	sumsEN, sumsRU := "sums by the hour", "суммы по часам"
	if t.Resolution == ResolutionWindow {
		sumsEN, sumsRU = "sums of ten seconds", "суммы по десять секунд"
	}
	return "Single flows of that time are no longer stored; our " + sumsEN + " " + en, "Отдельные потоки за это время уже не хранятся; наши " + sumsRU + " " + ru
}

// sight says how well it could have been seen.
func (t *Traffic) sight() (en, ru string) {
	rate := "1:" + strconv.FormatUint(uint64(t.Rate), 10)
	p, lines, linesRU := t.Chance, "", ""
	if t.GroupLines > 1 && t.GroupChance > t.Chance {
		p = t.GroupChance
		lines = fmt.Sprintf(" of all %d lines alike", t.GroupLines)
		linesRU = fmt.Sprintf(" по всем %d таким строкам", t.GroupLines)
	}
	if t.Rate == 1 {
		return "every packet was counted", "учитывался каждый пакет"
	}
	least, leastRU := "at least ", "не меньше "
	if t.CountStated {
		least, leastRU = "", ""
	}
	return fmt.Sprintf("we see a sample of %s packets, and the chance of having seen one%s (a line stands for %s%d) is %s", rate, lines, least, t.Claimed, percent(p)),
		fmt.Sprintf("мы видим выборку %s пакетов, вероятность увидеть хотя бы один%s (строка означает %s%d) — %s", rate, linesRU, leastRU, t.Claimed, percent(p))
}

func (t *Traffic) contradicted() (en, ru string) {
	sEN, sRU := t.sight()
	if t.Why == WhyNoService {
		return t.bySumsOf("account for all that the host sent then, and it used no such service at all: "+sEN+".",
			"учитывают всё, что хост тогда отправил, и к такому сервису он не обращался вовсе: "+sRU+".")
	}
	return "The host was active at that time, but our flow data does not show this: " + sEN + ".",
		"Хост в это время работал, но наши данные о потоках этого не показывают: " + sRU + "."
}

func (t *Traffic) notVisible() (en, ru string) {
	switch t.Why {
	case WhySilent:
		return "We saw no traffic of this host around that time, so that nothing can be said.", "Около этого времени трафика хоста мы не видели, сказать ничего нельзя."
	case WhyUnspecific:
		return "The line names neither target nor port, so that it cannot be looked for.", "Строка не называет ни адреса, ни порта назначения, искать нечего."
	case WhyNotKept:
		return "Single flows of that time are no longer stored, so that neither can be shown.", "Отдельные потоки за это время уже не хранятся, показать нельзя ни того, ни другого."
	case WhyCoarse:
		if t.Chance == 0 {
			return t.bySumsOf("do not name this address, and would not in any case: they keep a sample of the destinations, or no sampling rate is known.",
				"не называют этот адрес и не могли бы: они хранят лишь выборку адресов назначения, или частота выборки не известна.")
		}
		return t.bySumsOf(fmt.Sprintf("neither show nor exclude it. They name whom the host tried (SYN, UDP, ping), not whom it was connected with; the chance that they would name an attempt (at least %d packet(s), seen at 1:%d) is %s.", t.Claimed, t.Rate, percent(t.Chance)),
			fmt.Sprintf("этого не показывают, но и не исключают. В них есть те, к кому хост начинал обращаться (SYN, UDP, ping), но не установленные соединения; вероятность, что попытка (не меньше %d пакетов, выборка 1:%d) в них попала бы, — %s.", t.Claimed, t.Rate, percent(t.Chance)))
	case WhyTooMany:
		return "There is more data, or there are more lines, than are looked up at once, so that this line could not be decided.", "Данных или строк больше, чем проверяется за раз; по этой строке решить нельзя."
	case WhyZone:
		return "Not at the time as we read it; but its time zone is not known, and in another one it may be there.", "Не в то время, как мы его прочли; но часовой пояс не известен, и в другом поясе это может найтись."
	}
	sEN, sRU := t.sight()
	return "Our data neither shows nor excludes it: " + sEN + ".", "Наши данные этого не показывают, но и не исключают: " + sRU + "."
}

// skewText says what an offset means, English and Russian.
func skewText(s *Skew) (en, ru string) {
	data, dataRU := "flow data", "данным"
	if s.Resolution == ResolutionHour {
		data, dataRU = "sums by the hour", "суммам по часам"
	}
	en = fmt.Sprintf("With %s added to the times, %d of %d lines fit our %s; as written, %d do.", s.Name, s.Explained, s.Of, data, s.AtZero)
	ru = fmt.Sprintf("Если прибавить к времени %s, нашим %s соответствуют %d из %d строк; как записано — %d.", s.Name, dataRU, s.Explained, s.Of, s.AtZero)
	if s.Significant {
		en += " This is no accident: the clock or the time zone of the report is probably off."
		ru += " Случайностью это не объяснить: часы или часовой пояс отчёта, вероятно, неверны."
	} else {
		en += fmt.Sprintf(" The lines fall into %d moment(s), so that it may be an accident (%s).", s.Moments, percent(s.Chance))
		ru += fmt.Sprintf(" Строки относятся к %d моментам, это может быть случайностью (%s).", s.Moments, percent(s.Chance))
	}
	if s.Resolution == ResolutionHour {
		en += " The lines are so old that only whole hours can be told; an offset of minutes or a half hour cannot."
		ru += " Строки так стары, что различимы только целые часы; сдвиг на минуты или полчаса не увидеть."
	}
	return en + " It was not corrected.", ru + " Поправка не применена."
}

// oneLine keeps what a reporter wrote from breaking a text of ours.
func oneLine(s string, n int) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r < ' ' || r == 0x7f || r == 0x2028 || r == 0x2029 }), " ")
	if len(s) > n {
		s = strings.ToValidUTF8(s[:n], "") + "…"
	}
	return s
}
