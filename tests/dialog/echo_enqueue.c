/*
 * echo_enqueue - stands in enqueue's place for tests of smtpd: takes records 10 to 15, writes what it got to SINK_DIR/out in a readable
 * form, and answers or fails as SINK_DIR/orders says. One order a line:
 *   result N          answer N to every commit (0)            die-begin, die-body, die-commit    kill itself at that record
 *   result-once N     the first commit only                   die-once                           ... only the first process does it
 *   garbage           answer with octets that are no record   no-start                           exit at once
 *   discard           count the body, do not keep it          delay N                            N ms before it answers
 */
#include "common/channel.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct orders { int result, result_once, delay; bool die_begin, die_body, die_commit, die_once, garbage, no_start, discard; };

static FILE *out;

static void read_orders(struct orders *o)
{
	char line[100];
	FILE *f = fopen(SINK_DIR "/orders", "r");
	while (f && fgets(line, sizeof line, f)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "result ", 7) == 0)
			o->result = (int)strtol(line + 7, NULL, 10);
		else if (strncmp(line, "result-once ", 12) == 0)
			o->result_once = (int)strtol(line + 12, NULL, 10);
		else if (strncmp(line, "delay ", 6) == 0)
			o->delay = (int)strtol(line + 6, NULL, 10);
		o->die_begin = o->die_begin || strcmp(line, "die-begin") == 0;
		o->die_body = o->die_body || strcmp(line, "die-body") == 0;
		o->die_commit = o->die_commit || strcmp(line, "die-commit") == 0;
		o->die_once = o->die_once || strcmp(line, "die-once") == 0;
		o->garbage = o->garbage || strcmp(line, "garbage") == 0;
		o->discard = o->discard || strcmp(line, "discard") == 0;
		o->no_start = o->no_start || strcmp(line, "no-start") == 0;
	}
	if (f)
		fclose(f);
	/* The mark of the first process tells the second that it is not the first. */
	if (o->die_once && open(SINK_DIR "/died", O_CREAT | O_EXCL, 0600) < 0)
		o->die_begin = o->die_body = o->die_commit = false;
}

static void die_if(bool wanted)
{
	if (!wanted)
		return;
	fflush(out);
	raise(SIGKILL);
}

static void put_octets(struct bytes b)
{
	for (size_t i = 0; i < b.len; i++) {
		unsigned char c = (unsigned char)b.at[i];
		if (c == '\n')
			fputs("\\n\n|", out);
		else if (c < 32 || c >= 127)
			fprintf(out, c == '\r' ? "\\r" : "\\x%02x", c);
		else
			fputc(c, out);
	}
}

static void put_envelope(struct bytes b)
{
	while (b.len > 0) {
		fputs("E", out);
		put_octets(bytes_cut(&b, '\0'));
		fputs("\n", out);
	}
}

static void answer(const struct orders *o, int result)
{
	struct str reply = STR_INIT(100);
	usleep((useconds_t)o->delay * 1000);
	if (o->garbage)
		str_add_c(&reply, "this is no record at all");
	else
		mail_result_encode(&(struct mail_result){ .result = (uint8_t)result, .id = result == 0 ? 1 : 0 }, &reply);
	if (write(1, reply.at, reply.len) < 0)
		exit(1);
	str_free(&reply);
}

struct got { struct str envelope, body; size_t body_size; };

static void on_record(const struct record *r, struct orders *o, struct got *got)
{
	struct mail_begin begin;
	struct envelope_part envelope;
	struct body_part body;
	struct mail_commit commit;
	if (r->type == REC_mail_begin && mail_begin_decode(r->payload, &begin)) {
		die_if(o->die_begin);
		fprintf(out, "begin id_offset=%u\n", begin.id_offset);
		str_clear(&got->envelope);
		str_clear(&got->body);
		got->body_size = 0;
	} else if (r->type == REC_envelope_part && envelope_part_decode(r->payload, &envelope)) {
		str_add(&got->envelope, envelope.octets);
	} else if (r->type == REC_body_part && body_part_decode(r->payload, &body)) {
		die_if(o->die_body);
		got->body_size += body.octets.len;
		if (!o->discard)
			str_add(&got->body, body.octets);
	} else if (r->type == REC_mail_commit && mail_commit_decode(r->payload, &commit)) {
		die_if(o->die_commit);
		put_envelope(str_bytes(&got->envelope));
		fputs("|", out);
		put_octets(str_bytes(&got->body));
		fprintf(out, "\ncommit %s\n", commit.body_size == got->body_size ? "size agrees" : "SIZE DIFFERS");
		fflush(out);
		int result = o->result_once ? o->result_once : o->result;
		o->result_once = 0;
		answer(o, result);
	} else if (r->type == REC_mail_abort) {
		fputs("abort\n", out);
	} else {
		fputs("BAD RECORD\n", out);
	}
	fflush(out);
}

int main(void)
{
	struct orders orders = { 0 };
	struct got got = { .envelope = STR_INIT(8u << 20), .body = STR_INIT(256u << 20) };
	struct record_reader reader;
	struct record record;
	out = fopen(SINK_DIR "/out", "a");
	if (!out)
		return 1;
	read_orders(&orders);
	if (orders.no_start)
		return 61;
	fputs("start\n", out);
	fflush(out);
	record_reader_init(&reader, 0);
	while (record_reader_wait(&reader, &record, 0) == 1)
		on_record(&record, &orders, &got);
	fputs("end\n", out);
	fclose(out);
	record_reader_free(&reader);
	str_free(&got.envelope);
	str_free(&got.body);
	return 0;
}
