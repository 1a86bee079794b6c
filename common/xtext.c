/* xtext - common room, used by smtpd and bounce. See xtext.h. */
#include "xtext.h"

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

size_t xtext_char(struct bytes text, unsigned char *c_r)
{
	*c_r = (unsigned char)text.at[0];
	if (*c_r != '+')
		return 1;
	int high = text.len >= 3 ? hex_digit(text.at[1]) : -1, low = text.len >= 3 ? hex_digit(text.at[2]) : -1;
	if (high < 0 || low < 0)
		return 0;
	*c_r = (unsigned char)(high * 16 + low);
	return 3;
}
