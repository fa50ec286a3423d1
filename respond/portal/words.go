package portal

const defaultLanguage = "en"

// word is a text in a language; a key that is missing shows as itself, which a
// test forbids.
func word(lang, key string) string {
	if t, ok := words[lang][key]; ok {
		return t
	}
	return key
}

// words are the texts of the pages. Both languages have the same keys.
var words = map[string]map[string]string{"en": english, "ru": russian}

var english = map[string]string{
	"name": "English", "desk": "Abuse desk", "case": "Incident", "server": "Server", "error": "Error",

	"cut.title":         "The network of your server is switched off",
	"cut":               "We have suspended the network access of your server because it was attacking other systems. The server itself runs on, and nothing on it was changed. You can still work on it through the VNC console in your control panel.",
	"cut.answer":        "Find and remove the cause first. Then answer these three questions; they decide whether you get the network back.",
	"restricted.title":  "The network of your server is restricted",
	"restricted":        "Your server was attacking other systems, so we have restricted what it can send. The server runs on, everything else works, and so does the VNC console in your control panel.",
	"restricted.answer": "Find and remove the cause first. Then answer these three questions; they decide whether the restriction is lifted.",
	"warned.title":      "Your server may be attacking others",
	"warned":            "Your server is sending traffic that looks like an attack on other systems. Nothing has been switched off. Please check the server before it comes to that.",
	"warned.answer":     "Please check the server, then tell us what you found. If the traffic is intended and legitimate, tell us what it is for.",
	"releasing.title":   "The network of your server is being given back",
	"releasing":         "The network access of your server is being restored now; this usually takes less than a minute. No answer is needed any more.",
	"releasing.next":    "If the network does not work inside the server then, restart its network service from the VNC console.",

	"seen": "What we saw", "more": "and more:", "logs": "The log", "lines": "lines:", "rest": "Lines that only the download shows:",
	"logs.about": "These are the connections as our routers counted them. All times are UTC.",
	"download":   "Download", "port": "%s port %d", "to": "to %s", "ports": "%d different ports", "hosts": "%d different addresses",
	"pps":         "about %.0f packets per second",
	"cause":       "Where it usually comes from",
	"cause.about": "In most cases somebody has got into the server: through a weak password, an outdated site engine or plugin, or a service that is open to everyone. Stopping the process is rarely enough. If you cannot tell how they came in, the safe way is to save your data and reinstall the server.",

	"toanswer": "To the questions",
	"answer":   "Your answer",
	"q1":       "1. What happened?",
	"q1.hint":  "What sent the traffic, and how it got there. For example: the WordPress site was broken into through an old plugin.",
	"q2":       "2. How did you fix it?",
	"q2.hint":  "For example: I saved the data, reinstalled the server and changed all passwords.",
	"q3":       "3. What did you change so that it does not happen again?",
	"q3.hint":  "For example: automatic updates, keys instead of passwords, a firewall.",
	"once":     "You can send your answer once. Please check it before you send it.",
	"send":     "Send the answer", "until": "This page can be used until", "contact": "You can also write to us:",

	"err.answers": "Some answers are missing or cannot be taken as they are. See the notes at the questions.",
	"err.empty":   "Please answer this question.",
	"err.short":   "Please write a little more: a sentence at least.",
	"err.long":    "This is too long: at most 2500 characters.",
	"err.whole":   "Together the answers are too long. Please shorten this one.",
	"err.form":    "The page was open for too long, or was not sent completely. Nothing was stored. Please check your answers and send them again.",
	"err.size":    "This was too long to be read: at most 2500 characters for each answer. Nothing was stored.",
	"err.store":   "We could not store your answer just now. It is still here: please send it again in a minute.",

	"released.title": "Thank you, the network is being given back",
	"released":       "We have stored your answer. The network access of your server is being restored now; this usually takes less than a minute. You will get a message when it is done.",
	"released.next":  "If the network does not work inside the server then, restart its network service from the VNC console. Should the same traffic start again, the network will be cut at once, and people will decide.",
	"back.title":     "The network is back",
	"back":           "We have stored your answer, and the network access of your server is restored.",
	"back.next":      "If the network does not work inside the server, restart its network service from the VNC console. Should the same traffic start again, the network will be cut at once, and people will decide.",
	"queued.title":   "Thank you, we have your answer",
	"queued":         "We have stored your answer, and our staff will read it. Until then everything stays as it is.",
	"queued.next":    "You will get a message with the decision. You need not write again.",
	"refused.title":  "We have your answer, but the network stays off",
	"refused":        "We have stored your answer. It cannot lead to a release: this server has attacked others before, or our staff have decided otherwise.",
	"refused.next":   "You will get a message from our staff. The server runs on, and the VNC console works, so you can save your data.",
	"over.title":     "Nothing is left to answer",
	"over":           "This incident has ended. No answer is needed.",
	"over.next":      "If the network of your server does not work, restart its network service from the VNC console, then write to us.",

	"dead.title":   "This link cannot be used",
	"dead":         "Either it is not complete, or its time is over, or it was used already. If you have sent your answer, it has reached us and you need not do anything. Otherwise reply to our message and leave the incident number in the subject.",
	"rate.title":   "Too many requests",
	"rate":         "Please wait a minute, then load the page again.",
	"method.title": "This cannot be done here",
	"method":       "Please open the link from our message in a browser.",
	"nolog.title":  "The log is not available",
	"nolog":        "Please go back and try again in a minute. The log is attached to our message as well.",

	"rule.netscan": "Searching the network for servers to attack (network scan)", "rule.portscan": "Searching a server for open services (port scan)",
	"rule.blockscan": "Searching whole blocks of addresses (scan)", "rule.udp_sweep": "Searching by UDP (scan)",
	"rule.icmp_sweep": "Searching by ping (scan)", "rule.syn_flood": "Overloading another system (SYN flood)",
	"rule.udp_flood": "Overloading another system (UDP flood)", "rule.icmp_flood": "Overloading another system (ICMP flood)",
	"rule.packet_flood": "Overloading another system (packet flood)", "rule.reflector": "An open service that amplifies the attacks of others",
	"rule.spam": "Sending bulk mail", "rule.bruteforce": "Guessing passwords", "rule.blocked_port": "Traffic to a port that is closed",
	"rule.spoofed_source": "Forging the sender's address", "rule.other": "Traffic that harms others",
}

var russian = map[string]string{
	"name": "Русский", "desk": "Служба по работе с жалобами", "case": "Инцидент", "server": "Сервер", "error": "Ошибка",

	"cut.title":         "Сеть вашего сервера отключена",
	"cut":               "Мы приостановили сетевой доступ вашего сервера: с него шла атака на чужие системы. Сам сервер продолжает работать, и на нём ничего не изменилось. Зайти на него по-прежнему можно через VNC-консоль в панели управления.",
	"cut.answer":        "Сначала найдите и устраните причину, затем ответьте на три вопроса: от ответов зависит, вернём ли мы сеть.",
	"restricted.title":  "Сеть вашего сервера ограничена",
	"restricted":        "С вашего сервера шла атака на чужие системы, поэтому мы ограничили исходящий трафик. Сервер работает, всё остальное доступно, VNC-консоль в панели управления тоже.",
	"restricted.answer": "Сначала найдите и устраните причину, затем ответьте на три вопроса: от ответов зависит, снимем ли мы ограничение.",
	"warned.title":      "С вашего сервера, похоже, идёт атака",
	"warned":            "С вашего сервера идёт трафик, похожий на атаку на чужие системы. Мы ничего не отключали. Проверьте, пожалуйста, сервер, пока до этого не дошло.",
	"warned.answer":     "Проверьте, пожалуйста, сервер и напишите, что вы нашли. Если этот трафик создаёте вы сами и он законен, расскажите, для чего он нужен.",
	"releasing.title":   "Мы возвращаем сеть вашему серверу",
	"releasing":         "Сетевой доступ вашего сервера сейчас восстанавливается, обычно это занимает меньше минуты. Отвечать больше не нужно.",
	"releasing.next":    "Если после этого сеть внутри сервера не заработает, перезапустите сетевую службу через VNC-консоль.",

	"seen": "Что мы увидели", "more": "и ещё:", "logs": "Лог", "lines": "строк:", "rest": "Строк, которые есть только в скачиваемом файле:",
	"logs.about": "Здесь соединения, какими их посчитали наши маршрутизаторы. Время указано по UTC.",
	"download":   "Скачать", "port": "%s, порт %d", "to": "в сторону %s", "ports": "разных портов: %d", "hosts": "разных адресов: %d",
	"pps":         "примерно %.0f пакетов в секунду",
	"cause":       "Откуда это обычно берётся",
	"cause.about": "Чаще всего это значит, что сервер взломали: подобрали слабый пароль, нашли дыру в устаревшей CMS или плагине либо воспользовались сервисом, открытым для всех. Просто завершить подозрительный процесс обычно недостаточно. Если непонятно, как именно к вам попали, надёжнее всего сохранить данные и переустановить систему.",

	"toanswer": "К вопросам",
	"answer":   "Ваш ответ",
	"q1":       "1. Что произошло?",
	"q1.hint":  "Что именно отправляло трафик и как оно попало на сервер. Например: сайт на WordPress взломали через старый плагин.",
	"q2":       "2. Как вы это устранили?",
	"q2.hint":  "Например: сохранили данные, переустановили систему и сменили все пароли.",
	"q3":       "3. Что вы изменили, чтобы это не повторилось?",
	"q3.hint":  "Например: автоматические обновления, вход по ключу вместо пароля, межсетевой экран.",
	"once":     "Отправить ответ можно один раз. Проверьте его, пожалуйста, перед отправкой.",
	"send":     "Отправить ответ", "until": "Страница доступна до", "contact": "Нам можно и написать:",

	"err.answers": "Часть ответов не заполнена, или их нельзя принять в таком виде. Смотрите пометки у вопросов.",
	"err.empty":   "Ответьте, пожалуйста, на этот вопрос.",
	"err.short":   "Напишите, пожалуйста, чуть подробнее: хотя бы одно предложение.",
	"err.long":    "Слишком длинно: не больше 2500 символов.",
	"err.whole":   "Вместе ответы слишком длинные. Сократите, пожалуйста, этот.",
	"err.form":    "Страница была открыта слишком долго или отправилась не полностью. Ничего не сохранено. Проверьте, пожалуйста, ответы и отправьте их ещё раз.",
	"err.size":    "Текст слишком длинный, и прочитать его не удалось: не больше 2500 символов на каждый ответ. Ничего не сохранено.",
	"err.store":   "Сейчас сохранить ответ не получилось. Он по-прежнему на этой странице: отправьте его, пожалуйста, ещё раз через минуту.",

	"released.title": "Спасибо, мы возвращаем сеть",
	"released":       "Мы сохранили ваш ответ. Сетевой доступ сервера сейчас восстанавливается, обычно это занимает меньше минуты. Когда всё будет готово, вы получите сообщение.",
	"released.next":  "Если после этого сеть внутри сервера не заработает, перезапустите сетевую службу через VNC-консоль. Если такой трафик появится снова, сеть будет отключена сразу, а решение примут сотрудники.",
	"back.title":     "Сеть снова работает",
	"back":           "Мы сохранили ваш ответ, сетевой доступ сервера восстановлен.",
	"back.next":      "Если сеть внутри сервера не заработала, перезапустите сетевую службу через VNC-консоль. Если такой трафик появится снова, сеть будет отключена сразу, а решение примут сотрудники.",
	"queued.title":   "Спасибо, мы получили ваш ответ",
	"queued":         "Мы сохранили ваш ответ, его прочитают наши сотрудники. До этого всё остаётся как есть.",
	"queued.next":    "О решении мы сообщим. Писать ещё раз не нужно.",
	"refused.title":  "Мы получили ваш ответ, но сеть остаётся отключённой",
	"refused":        "Мы сохранили ваш ответ, но вернуть сеть по нему нельзя: с этого сервера атаковали и раньше либо так решили наши сотрудники.",
	"refused.next":   "Наши сотрудники вам напишут. Сервер работает, VNC-консоль доступна, так что данные можно сохранить.",
	"over.title":     "Отвечать больше не нужно",
	"over":           "Этот инцидент закрыт, ответ не требуется.",
	"over.next":      "Если сеть сервера не работает, перезапустите сетевую службу через VNC-консоль, а потом напишите нам.",

	"dead.title":   "Эта ссылка не работает",
	"dead":         "Она неполная, срок её действия истёк или ею уже воспользовались. Если вы отправили ответ, мы его получили, больше ничего делать не нужно. Если нет — ответьте на наше письмо и оставьте номер инцидента в теме.",
	"rate.title":   "Слишком много запросов",
	"rate":         "Подождите, пожалуйста, минуту и откройте страницу снова.",
	"method.title": "Так это не работает",
	"method":       "Откройте, пожалуйста, ссылку из нашего письма в браузере.",
	"nolog.title":  "Лог недоступен",
	"nolog":        "Вернитесь, пожалуйста, назад и попробуйте ещё раз через минуту. Лог есть и во вложении к нашему письму.",

	"rule.netscan": "Поиск чужих серверов для атаки (сканирование сети)", "rule.portscan": "Поиск открытых сервисов на чужом сервере (сканирование портов)",
	"rule.blockscan": "Перебор целых блоков адресов (сканирование)", "rule.udp_sweep": "Поиск по UDP (сканирование)",
	"rule.icmp_sweep": "Поиск с помощью ping (сканирование)", "rule.syn_flood": "Перегрузка чужой системы (SYN-флуд)",
	"rule.udp_flood": "Перегрузка чужой системы (UDP-флуд)", "rule.icmp_flood": "Перегрузка чужой системы (ICMP-флуд)",
	"rule.packet_flood": "Перегрузка чужой системы (флуд пакетами)", "rule.reflector": "Открытый сервис, через который усиливают чужие атаки",
	"rule.spam": "Массовая рассылка почты", "rule.bruteforce": "Подбор паролей", "rule.blocked_port": "Трафик на закрытый порт",
	"rule.spoofed_source": "Подмена адреса отправителя", "rule.other": "Трафик, который вредит другим",
}
