/* domain - common room, used wherever a host name is read. See domain.h. */
#include "domain.h"

#define LABEL_MAX 63

static bool is_ldh(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

static bool label_valid(struct bytes label, bool utf8)
{
	/* RFC 5321 4.1.2: Let-dig at both ends; RFC 1035 2.3.4: 63 octets. A U-label's length in octets of its A-label form is
	 * known to the resolver only; its own octets are at most as many as the whole domain's. */
	if (label.len == 0 || label.at[0] == '-' || label.at[label.len - 1] == '-')
		return false;
	bool ascii = true;
	for (size_t i = 0; i < label.len; i++) {
		bool high = (unsigned char)label.at[i] >= 0x80;
		if (high ? !utf8 : !is_ldh(label.at[i]))
			return false;
		ascii = ascii && !high;
	}
	return ascii ? label.len <= LABEL_MAX : bytes_is_utf8_text(label);
}

bool domain_valid(struct bytes name, bool utf8)
{
	if (name.len == 0 || name.len > DOMAIN_MAX)
		return false;
	for (size_t dot; ; name = bytes_slice(name, dot + 1, name.len)) {
		dot = bytes_find(name, '.');
		if (!label_valid(bytes_slice(name, 0, dot), utf8))
			return false;
		if (dot == name.len)
			return true;
	}
}

void domain_lower(struct bytes name, char out[DOMAIN_MAX + 1])
{
	size_t len = name.len < DOMAIN_MAX ? name.len : DOMAIN_MAX;

	for (size_t i = 0; i < len; i++)
		out[i] = name.at[i] >= 'A' && name.at[i] <= 'Z' ? (char)(name.at[i] - 'A' + 'a') : name.at[i];
	out[len] = 0;
}

bool domain_matches(struct bytes name, struct bytes pattern)
{
	if (pattern.len && pattern.at[0] == '.')
		return name.len > pattern.len && bytes_ends_nocase(name, pattern);
	return bytes_equal_nocase(name, pattern);
}
