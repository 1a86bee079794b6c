/*
 * tappal_check - `tappal queue check`: everything in the spool against everything else. Room: queue, as tappal-queue.
 *
 * Root reads no mail: it becomes tappal-queue before it opens a file of the queue.
 */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "common/io.h"
#include "common/paths.h"
#include "common/priv.h"
#include "queue/store/check.h"
#include "repair.h"
#include "show.h"
#include "tappal.h"

#define LINES_MAX 1000u          /* of one kind; further ones are counted */

struct run {
	struct check check;
	struct repair *repair;        /* NULL: only look */
	bool json, wants_repair;
	const char *spool;            /* --spool, or NULL */
	int dir;                      /* the spool */
	uint64_t lines[CHECK_KINDS];
};

/* ---- who, and where ---- */

static void read_options(struct run *run, int argc, char **argv)
{
	static const struct option options[] = {
		{ "json", no_argument, NULL, 'j' }, { "repair", no_argument, NULL, 'r' }, { "spool", required_argument, NULL, 's' }, { NULL, 0, NULL, 0 },
	};
	int option;
	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, ":", options, NULL)) != -1) {
		switch (option) {
		case 'j': run->json = true; break;
		case 'r': run->wants_repair = true; break;
		case 's': run->spool = optarg; break;
		case ':': tool_usage("%s wants a value", argv[optind - 1]);
		default: tool_usage("`tappal queue check` has no option %s; see `tappal help`", show_text(bytes_of(argv[optind - 1])));
		}
	}
	if (argv[optind] != NULL)
		tool_usage("`tappal queue check` takes no arguments but --repair, --spool DIR and --json");
	if (run->wants_repair && run->spool)
		tool_usage("--repair is for the spool of this host, not for a copy of one. Nothing was done");
}

/* The directory is opened by whoever calls, and entered by tappal-queue: the way to it need not be open to that account. */
static void enter(struct run *run)
{
	const char *path = run->spool ? run->spool : path_spool;
	run->dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (run->dir < 0)
		tool_stop("%s: %s", path, strerror(errno));
	if (run->wants_repair)
		repair_prepare(run->dir);
	tool_become_queue(run->spool != NULL);
	if (fchdir(run->dir) != 0)
		tool_stop("%s: %s, as %s", path, strerror(errno), ACCOUNT_QUEUE);
}

/* queued reads the control fifo as long as it lives. */
static bool is_live(void)
{
	int fd = io_open_fifo_write(AT_FDCWD, FIFO_CONTROL);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

/* ---- findings ---- */

static void print_json(const struct check_finding *f, const char *id)
{
	json_t *o = json_object();
	json_object_set_new(o, "kind", json_string(check_kind_name(f->kind)));
	if (f->file[0])
		json_object_set_new(o, "file", show_json(bytes_of(f->file)));
	if (f->size > 0) {
		show_json_number(o, "offset", f->offset);
		show_json_number(o, "size", f->size);
	}
	if (f->id != 0)
		json_object_set_new(o, "queue_id", json_string(id));
	json_object_set_new(o, "text", show_json(bytes_of(f->text)));
	if (f->kind != CHECK_NOTE)
		json_object_set_new(o, "next", json_string(check_kind_next(f->kind)));
	show_json_line(o);
}

static void print_line(const struct check_finding *f, const char *id)
{
	printf("%s", check_kind_name(f->kind));
	if (f->file[0])
		printf(" %s", show_text(bytes_of(f->file)));
	if (f->size > 0)
		printf(" at %llu, %llu octets", (unsigned long long)f->offset, (unsigned long long)f->size);
	if (f->id != 0)
		printf(", message %s", id);
	printf(": %s%s%s\n", show_text(bytes_of(f->text)), f->kind == CHECK_NOTE ? "" : "; ", check_kind_next(f->kind));
}

static void found(void *context, const struct check_finding *f)
{
	struct run *run = context;
	char id[MSGID_TEXT + 1] = "";
	if (run->repair)
		repair_note(run->repair, f);
	if (run->lines[f->kind]++ >= LINES_MAX)
		return;
	msgid_format(f->id & MSGID_MAX, id);
	if (run->json)
		print_json(f, id);
	else
		print_line(f, id);
}

/* ---- repair ---- */

static void told(void *context, const char *file, const char *item, const char *why)
{
	const struct run *run = context;
	if (run->json) {
		json_t *o = json_object();
		json_object_set_new(o, "kind", json_string("set-aside-now"));
		json_object_set_new(o, "file", show_json(bytes_of(file)));
		json_object_set_new(o, item ? "item" : "failed", show_json(bytes_of(item ? item : why)));
		show_json_line(o);
	} else if (item) {
		printf("%s: kept as %s/%s, with a report beside it\n", show_text(bytes_of(file)), SPOOL_QUARANTINE, item);
	} else {
		printf("%s: could not be set aside: %s\n", show_text(bytes_of(file)), why);
	}
}

static void repair(struct run *run)
{
	if (!repair_run(run->repair, told, run))
		tool_say("not all could be set aside; what is left is where it was");
	if (repair_took_index(run->repair))
		tool_say("the index is made anew from the log when queued starts; what can come twice by it stands in tappal(8)");
	repair_end(run->repair);
}

/* ---- the end ---- */

static uint64_t findings(const struct run *run)
{
	uint64_t all = 0;
	for (unsigned k = 0; k < CHECK_KINDS; k++)
		all += k == CHECK_NOTE ? 0 : run->check.count[k];
	return all;
}

static void summary_json(const struct run *run)
{
	const struct check_sums *s = &run->check.sums;
	json_t *o = json_object(), *kinds = json_object();
	for (unsigned k = 0; k < CHECK_KINDS; k++) {
		if (run->check.count[k] > 0)
			show_json_number(kinds, check_kind_name(k), run->check.count[k]);
	}
	json_object_set_new(o, "kind", json_string("summary"));
	show_json_number(o, "findings", findings(run));
	json_object_set_new(o, "kinds", kinds);
	json_object_set_new(o, "live", json_boolean(run->check.live));
	show_json_number(o, "messages", s->messages);
	show_json_number(o, "recipients", s->recipients);
	show_json_number(o, "segments", s->segments);
	show_json_number(o, "records", s->records);
	show_json_number(o, "octets", s->octets);
	show_json_number(o, "large", s->large);
	show_json_number(o, "intake", s->intake);
	show_json_number(o, "behind", s->behind);
	show_json_number(o, "unproved", s->unproved);
	show_json_line(o);
}

static void summary(const struct run *run)
{
	const struct check_sums *s = &run->check.sums;
	struct str size = STR_INIT(64);
	for (unsigned k = 0; k < CHECK_KINDS; k++) {
		if (run->lines[k] > LINES_MAX)
			printf("%s: %llu more\n", check_kind_name(k), (unsigned long long)(run->lines[k] - LINES_MAX));
	}
	show_size(s->octets, &size);
	printf("-- %llu messages, %llu recipients; %llu segments, %llu records of %s octets; %llu large bodies; %llu waiting in intake/: ",
		(unsigned long long)s->messages, (unsigned long long)s->recipients, (unsigned long long)s->segments, (unsigned long long)s->records,
		str_c(&size), (unsigned long long)s->large, (unsigned long long)s->intake);
	uint64_t count = findings(run);
	if (count == 0)
		printf("clean\n");
	else
		printf("%llu finding%s\n", (unsigned long long)count, count == 1 ? "" : "s");
	str_free(&size);
}

int command_check(int argc, char **argv)
{
	struct run run = { .dir = -1 };
	read_options(&run, argc, argv);
	enter(&run);
	run.check = (struct check){
		.live = !run.spool && is_live(), .backup = run.spool != NULL, .now = clock_wall_ms(), .found = found, .context = &run,
	};
	if (run.wants_repair)
		run.repair = repair_begin(run.check.now);
	if (!check_run(&run.check))
		tool_stop("the queue in %s could not be checked: %s", run.spool ? run.spool : path_spool, run.check.error);
	if (run.repair)
		repair(&run);
	if (run.json)
		summary_json(&run);
	else
		summary(&run);
	if (!run.check.live && !run.spool && is_live())
		tool_say("queued was started meanwhile: what was found may be its work, check again");
	close(run.dir);
	return findings(&run) > 0 ? EXIT_FOUND : EXIT_OK;
}
