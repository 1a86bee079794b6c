/* sevenbit - the conversion of one delivery's body. Room: remote, bytes from strangers. */
#include <stdlib.h>

#include "common/envelope.h"
#include "sevenbit.h"

#define BLOCK 32768u
#define OUT_MAX (8u << 20)    /* above what downgrade.h says of one call */

enum sevenbit_look sevenbit_look(struct delivery *d)
{
	if (!job_ahead(d))
		return d->ahead.failed ? LOOK_MEMORY : LOOK_BROKEN;
	for (size_t i = 0; i < d->ahead.len; i++)
		if ((unsigned char)d->ahead.at[i] > 127)
			return LOOK_8BIT;
	return d->ahead.len == d->job.body_size ? LOOK_ASCII : LOOK_ASCII_SO_FAR;
}

void sevenbit_free(struct sevenbit *s)
{
	if (s->converter != NULL)
		downgrade_free(s->converter);
	free(s->converter);
	str_free(&s->out);
	*s = (struct sevenbit){ 0 };
}

const char *sevenbit_why(const struct sevenbit *s)
{
	return s->converter != NULL && s->converter->why != NULL ? s->converter->why : "";
}

enum sevenbit_result sevenbit_block(struct sevenbit *s, struct bytes in, bool last, struct bytes *out_r)
{
	bool good;

	str_clear(&s->out);
	good = downgrade_add(s->converter, in, &s->out) && (!last || downgrade_end(s->converter, &s->out));
	*out_r = str_bytes(&s->out);
	if (good)
		return SEVENBIT_OK;
	return s->converter->why != NULL ? SEVENBIT_CANNOT : SEVENBIT_MEMORY;
}

/* The whole message is in `all`: convert it for its size alone. */
static enum sevenbit_result measure(struct sevenbit *s, struct bytes all)
{
	enum sevenbit_result result = SEVENBIT_OK;
	struct bytes out;

	s->size_known = true;
	while (all.len > 0 && result == SEVENBIT_OK) {
		struct bytes block = bytes_slice(all, 0, BLOCK);

		all = bytes_slice(all, block.len, all.len);
		result = sevenbit_block(s, block, all.len == 0, &out);
		s->size += out.len;
	}
	return result;
}

static bool converter_make(struct sevenbit *s, unsigned wish)
{
	s->converter = malloc(sizeof *s->converter);
	if (s->converter == NULL)
		return false;
	downgrade_init(s->converter, wish);
	str_init(&s->out, OUT_MAX);
	return true;
}

static unsigned wish_of(const struct delivery *d, bool to_8bit)
{
	if (d->job.body_type == BODY_BINARYMIME)
		return DOWNGRADE_MUST | DOWNGRADE_BINARY | (to_8bit ? DOWNGRADE_TO_8BIT : 0u);
	return d->job.body_type != BODY_7BIT ? DOWNGRADE_MUST : 0u;
}

enum sevenbit_result sevenbit_plan(struct sevenbit *s, struct delivery *d, bool to_8bit)
{
	unsigned wish = wish_of(d, to_8bit);
	enum sevenbit_look look = sevenbit_look(d);
	bool whole = d->ahead.len == d->job.body_size;
	enum sevenbit_result result;

	if (look == LOOK_MEMORY || look == LOOK_BROKEN)
		return look == LOOK_MEMORY ? SEVENBIT_MEMORY : SEVENBIT_BROKEN;
	if (look == LOOK_ASCII && (wish & DOWNGRADE_BINARY) == 0)
		return SEVENBIT_OK;
	if (!converter_make(s, wish))
		return SEVENBIT_MEMORY;
	if (!whole)
		return SEVENBIT_OK;
	result = measure(s, str_bytes(&d->ahead));
	if (result != SEVENBIT_OK)
		return result;
	downgrade_free(s->converter);
	downgrade_init(s->converter, wish);
	return SEVENBIT_OK;
}
