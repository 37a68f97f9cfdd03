package proxy

// FitsMask reports whether a mask fits the whole of a user name: * stands for
// any bytes, ? for one. ASCII letters count without their case.
func FitsMask(mask, user string) bool {
	m, i := 0, 0
	star, from := -1, 0 // the last *, and where what it stands for ends
	for i < len(user) {
		switch {
		case m < len(mask) && mask[m] == '*':
			star, from = m, i
			m++
		case m < len(mask) && (mask[m] == '?' || lowerByte(mask[m]) == lowerByte(user[i])):
			m++
			i++
		case star >= 0:
			from++
			m, i = star+1, from
		default:
			return false
		}
	}
	for m < len(mask) && mask[m] == '*' {
		m++
	}
	return m == len(mask)
}

func lowerByte(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}
