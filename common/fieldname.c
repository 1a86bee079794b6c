/* fieldname - the names of header fields. Room: common, bytes from strangers. */
#include "fieldname.h"

size_t fieldname(struct bytes line)
{
	size_t n = 0, colon;

	while (n < line.len && line.at[n] > ' ' && line.at[n] < 127 && line.at[n] != ':')
		n++;
	colon = n;
	while (colon < line.len && (line.at[colon] == ' ' || line.at[colon] == '\t'))
		colon++;
	return colon < line.len && line.at[colon] == ':' ? n : 0;
}
