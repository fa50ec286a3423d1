package complaint

import "github.com/flowcordon/flowcordon/complaint/parse"

var reasonWords = map[parse.Reason][2]string{
	parse.NoAddress:    {"it has no whole source address", "нет полного адреса источника"},
	parse.NoTime:       {"it has no time", "нет времени"},
	parse.NoDate:       {"it has a time of day without a date", "время без даты"},
	parse.BadTime:      {"its time cannot be read", "время не читается"},
	parse.BadAddress:   {"its address cannot be", "такого адреса не бывает"},
	parse.HalfLine:     {"a part of it is missing", "часть строки отсутствует"},
	parse.NoRoles:      {"it does not say which address is the source", "не сказано, какой адрес — источник"},
	parse.TooLong:      {"it is too long", "слишком длинная"},
	parse.NotALog:      {"it is no log line", "это не строка журнала"},
	parse.NotCovered:   {"the report lacks required fields", "в отчёте нет обязательных полей"},
	parse.OnlyNetworks: {"its source is a whole network", "источник — целая сеть"},
}

func reason(r parse.Reason, ru bool) string {
	w, ok := reasonWords[r]
	if !ok {
		return string(r)
	}
	if ru {
		return w[1]
	}
	return w[0]
}
