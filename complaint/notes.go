package complaint

import "fmt"

// noteTexts are the remarks by code, English and Russian. The verbs are filled
// with what note was given.
var noteTexts = map[string][2]string{
	"both_ours":           {"Both addresses are ours; the line is about two of our own hosts.", "Оба адреса наши: строка о двух наших хостах."},
	"roles_swapped":       {"The line does not say who did it; ours stands second and is taken for the one that was reported.", "Строка не говорит, кто источник; наш адрес стоит вторым и принят за тот, на который жалуются."},
	"ours_is_target":      {"Our address is the destination in this line: somebody connected to it. That fits a server of ours that was misused, or a line copied the wrong way round.", "Наш адрес в строке — получатель: подключались к нему. Так бывает, если злоупотребляют нашим сервером или стороны перепутаны."},
	"ban":                 {"The line is of a ban, which comes after what it punishes; ten minutes before it were looked at too.", "Это строка о блокировке, она позже самих попыток; просмотрены и десять минут до неё."},
	"reading":             {"Read as %s (%s) the flows show it; the time as written has more than one meaning.", "Если читать время как %s (%s), потоки это показывают; записанное время неоднозначно."},
	"no_holder":           {"The inventory does not know who held this address at that time.", "Инвентарь не знает, кому принадлежал адрес в то время."},
	"shared":              {"The address serves several customers (NAT or shared). The source port and the exact time decide whose connection it was; flows alone do not.", "Адрес общий для нескольких клиентов (NAT). Чьё соединение, решают порт источника и точное время; по одним потокам это не определить."},
	"shared_no_port":      {"The address serves several customers (NAT or shared) and the line has no source port: nobody can tell whose connection it was. Ask for the port.", "Адрес общий для нескольких клиентов (NAT), а порта источника в строке нет: чьё это соединение, определить нельзя. Запросите порт."},
	"holder_undated":      {"The inventory does not say since when this customer holds the address, and a change of hands is remembered for 90 days only. Check the contract's date before writing to the customer.", "Инвентарь не говорит, с какого времени адрес у этого клиента, а смену владельца помнит лишь 90 дней. Прежде чем писать клиенту, сверьте дату договора."},
	"changed_hands":       {"The address changed hands close to that time (somebody else held it at %s). Check the reporter's clock before writing to the customer.", "Адрес сменил владельца около этого времени (в %s он был у другого). Прежде чем писать клиенту, проверьте часы заявителя."},
	"zone_decides_holder": {"The line's time zone is not known for sure, and with another zone somebody else held the address (at %s). Ask for the zone before writing to the customer.", "Часовой пояс строки точно не известен, а в другом поясе адрес был у другого владельца (в %s). Прежде чем писать клиенту, уточните пояс."},
	"forged":              {"Packets with our address as the source came in from outside at that time: the source was forged, our host did not send them.", "В это время пакеты с нашим адресом источника приходили снаружи: адрес подделан, наш хост их не отправлял."},
	"answers":             {"What the reporter saw from us are answers (SYN-ACK or RST): somebody may have sent packets to our host with the reporter's address as a forged source.", "Заявитель видел наши ответы (SYN-ACK или RST): возможно, кто-то слал пакеты нашему хосту с поддельным адресом заявителя."},
	"server_side":         {"It looks like the late answers of a service on our side, and not like an attack: the port on our side is the service's.", "Похоже на запоздалые ответы сервиса на нашей стороне, а не на атаку: порт сервиса — наш."},
	"no_target":           {"The line does not name the attacked address. The flows show that our host was a client of that service then, not that it was this very target.", "Строка не называет атакованный адрес. Потоки показывают, что наш хост тогда обращался к такому сервису, но не что именно к этому адресу."},
	"future":              {"The time lies after the receipt of the complaint: a zone or a clock is wrong.", "Время позже получения жалобы: неверен пояс или часы."},
}

// note adds a remark, once.
func (l *Line) note(code string, args ...any) {
	t, ok := noteTexts[code]
	if !ok {
		panic("complaint: note without a text: " + code)
	}
	if l.noted(code) {
		return
	}
	n := Note{Code: code, EN: t[0], RU: t[1]}
	if len(args) > 0 {
		n.EN, n.RU = fmt.Sprintf(t[0], args...), fmt.Sprintf(t[1], args...)
	}
	l.Notes = append(l.Notes, n)
}
