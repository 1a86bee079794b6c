/*
 * arguments - see arguments.h. Room: queue, the operator's own uid.
 */
#include "arguments.h"

#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "show.h"
#include "tappal.h"

enum { OPT_FILTER = 256, OPT_JSON, OPT_ALL, OPT_DRY_RUN, OPT_BECAUSE, OPT_RCPTS, OPT_RAW, OPT_HEADERS };

static const struct option options[] = {
	{ "from", required_argument, NULL, OPT_FILTER }, { "to", required_argument, NULL, OPT_FILTER }, { "domain", required_argument, NULL, OPT_FILTER },
	{ "older", required_argument, NULL, OPT_FILTER }, { "newer", required_argument, NULL, OPT_FILTER }, { "state", required_argument, NULL, OPT_FILTER },
	{ "reason", required_argument, NULL, OPT_FILTER }, { "limit", required_argument, NULL, OPT_FILTER }, { "all", no_argument, NULL, OPT_ALL },
	{ "json", no_argument, NULL, OPT_JSON }, { "dry-run", no_argument, NULL, OPT_DRY_RUN }, { "because", required_argument, NULL, OPT_BECAUSE },
	{ "recipients-only", no_argument, NULL, OPT_RCPTS }, { "raw", no_argument, NULL, OPT_RAW }, { "headers", no_argument, NULL, OPT_HEADERS },
	{ NULL, 0, NULL, 0 },
};

static unsigned needs(int option)
{
	switch (option) {
	case OPT_FILTER:
	case OPT_ALL: return ARGS_FILTERS;
	case OPT_DRY_RUN:
	case OPT_BECAUSE:
	case OPT_RCPTS: return ARGS_OPERATION;
	case OPT_RAW:
	case OPT_HEADERS: return ARGS_SHOW;
	default: return 0;
	}
}

static void take_option(struct arguments *a, int option, const char *name)
{
	struct str why = STR_INIT(500);

	switch (option) {
	case OPT_JSON: a->json = true; break;
	case OPT_ALL: a->sel.all = true; break;
	case OPT_DRY_RUN: a->dry_run = true; break;
	case OPT_BECAUSE: a->because = optarg; break;
	case OPT_RCPTS: a->recipients_only = true; break;
	case OPT_RAW: a->raw = true; break;
	case OPT_HEADERS: a->headers = true; break;
	default:
		if (!selection_option(&a->sel, name, optarg, &why))
			tool_usage("%s", str_c(&why));
	}
	str_free(&why);
}

void arguments_read(struct arguments *a, int argc, char **argv, unsigned takes)
{
	int option, which = 0;

	*a = (struct arguments){ .json = false };
	selection_init(&a->sel);
	opterr = 0;
	optind = 1;
	while ((option = getopt_long(argc, argv, ":", options, &which)) != -1) {
		if (option == ':')
			tool_usage("%s wants a value", argv[optind - 1]);
		if (option == '?')
			tool_usage("there is no option %s; see `tappal help`", show_text(bytes_of(argv[optind - 1])));
		if ((needs(option) & takes) != needs(option))
			tool_usage("`tappal queue %s` takes no --%s", argv[0], options[which].name);
		take_option(a, option, options[which].name);
	}
	a->ids = argv + optind;
}

void arguments_free(struct arguments *a)
{
	selection_free(&a->sel);
}

struct id_range arguments_range(const char *text)
{
	struct id_range range;

	if (!msgid_parse_prefix(bytes_of(text), &range.first, &range.last))
		tool_usage("%s is no queue id nor the beginning of one", show_text(bytes_of(text)));
	return range;
}

static void add(struct arguments *a, struct id_range range)
{
	if (!selection_add_id(&a->sel, range))
		tool_stop("out of memory");
}

/* A prefix that must mean one message. */
static void add_unique(struct arguments *a, struct index *ix, const char *text, struct id_range range)
{
	char first[MSGID_TEXT + 1], second[MSGID_TEXT + 1];
	msgid_t ids[2] = { 0, 0 };
	unsigned count = 0;
	enum index_result r;

	tool_read_begin(ix);
	r = select_resolve(ix, range, false, &count, ids);
	index_read_end(ix);
	if (r == INDEX_FATAL)
		tool_index_failed(ix);
	if (count == 0) {
		tool_say("no message in the queue has an id that begins with %s", show_text(bytes_of(text)));
		a->missing = true;
		return;
	}
	if (count > 1) {
		msgid_format(ids[0], first);
		msgid_format(ids[1], second);
		tool_usage("%s means more than one message (%s, %s ...); give more of the id. Nothing was done", show_text(bytes_of(text)), first, second);
	}
	add(a, (struct id_range){ ids[0], ids[0] });
}

static void add_text(struct arguments *a, struct index *ix, const char *text, bool unique)
{
	struct id_range range = arguments_range(text);

	/* A whole id is not looked up: the index may be a second behind queued. */
	if (!unique || range.first == range.last)
		add(a, range);
	else
		add_unique(a, ix, text, range);
}

static void add_from_stdin(struct arguments *a, struct index *ix, bool unique)
{
	char line[512];

	while (fgets(line, sizeof(line), stdin) != NULL) {
		size_t from = strspn(line, " \t\"*!"), n = strcspn(line + from, " \t\r\n\"*!");

		line[from + n] = '\0';
		if (n > 0)
			add_text(a, ix, line + from, unique);
	}
}

void arguments_ids(struct arguments *a, struct index *ix, bool unique)
{
	for (char **id = a->ids; *id != NULL; id++) {
		if (strcmp(*id, "-") == 0)
			add_from_stdin(a, ix, unique);
		else
			add_text(a, ix, *id, unique);
	}
}
