/* dotstuff - bodies made fit for DATA. Room: remote. */
#include <string.h>

#include "dotstuff.h"

/* Octets at the front of `in` that are neither CR nor LF. */
static size_t plain_run(struct bytes in)
{
	size_t n = 0;

	while (n < in.len && in.at[n] != '\r' && in.at[n] != '\n')
		n++;
	return n;
}

/* UNSAFE: why the bounds hold: an octet of input writes at most two of output, but for the first after a CR of an earlier call, which
 * writes one more (the LF that CR lacked); DOTSTUFF_ROOM counts that. */
size_t dotstuff_add(struct dotstuff *d, struct bytes in, char *out)
{
	char *to = out;

	while (in.len > 0) {
		char c = in.at[0];
		size_t run;

		if (d->at == DOTSTUFF_AFTER_CR) {
			*to++ = '\n';
			d->at = DOTSTUFF_LINE_START;
			if (c == '\n') {
				in = bytes_slice(in, 1, in.len);
				continue;
			}
		}
		if (c == '\r') {
			*to++ = '\r';
			d->at = DOTSTUFF_AFTER_CR;
			in = bytes_slice(in, 1, in.len);
			continue;
		}
		if (c == '\n') {
			*to++ = '\r';
			*to++ = '\n';
			d->at = DOTSTUFF_LINE_START;
			in = bytes_slice(in, 1, in.len);
			continue;
		}
		if (c == '.' && d->at == DOTSTUFF_LINE_START)
			*to++ = '.';
		run = plain_run(in);
		memcpy(to, in.at, run);
		to += run;
		d->at = DOTSTUFF_IN_LINE;
		in = bytes_slice(in, run, in.len);
	}
	return (size_t)(to - out);
}

size_t dotstuff_end(struct dotstuff *d, char *out)
{
	static const char *const ends[] = { [DOTSTUFF_LINE_START] = ".\r\n", [DOTSTUFF_IN_LINE] = "\r\n.\r\n", [DOTSTUFF_AFTER_CR] = "\n.\r\n" };
	size_t n = strlen(ends[d->at]);

	memcpy(out, ends[d->at], n);
	d->at = DOTSTUFF_LINE_START;
	return n;
}
