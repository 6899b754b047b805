/* cmd_salvage.c - `varve salvage DIR OUT`: what is intact of a damaged data directory, as a new
 * one. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/command.h"
#include "service/finding.h"
#include "store/lsm/salvage.h"

struct arguments {
    bool older;
};

static const struct option_spec specs[] = {
    {
        .name = "older",
        .group = "Copy",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct arguments, older, bool),
        .text = "Also copy a value where a newer one of the same key may be lost.",
    },
};

static const struct option_table options = {
    .command = "salvage",
    .summary = "Copy what is intact of a damaged data directory into a new one.",
    .operands = "DIR OUT",
    .details =
        "For when the server doesn't start because of damage, or answers 500 for some keys, and "
        "`varve check DIR` agrees. A backup may have what is lost here.\n\n"
        "1. Stop the server. DIR is only read, never changed; keep it.\n\n"
        "2. Run `varve salvage DIR OUT >report`. OUT must not exist or be empty, on a disk with "
        "room for a copy of all data and of the log. Before the end OUT can't be opened.\n\n"
        "3. Read the report. Its last line sums up what was copied and what is lost.\n\n"
        "4. Start the server with `--data-dir OUT`.\n\n"
        "A line of the report begins with\n\n"
        "lost: the records of these keys, or the writes of these numbers, are gone. Of writes the "
        "keys may be unknown: in OUT such a key has the value before, or none.\n\n"
        "older: of this key a newer value may be among what is lost. The older one is left out, "
        "or with --older copied.\n\n"
        "note: damage by which nothing is lost, or a file that was left out.\n\n"
        "Of a damaged batch the intact part is copied. Without an intact MANIFEST all tables and "
        "log segments are taken that are there, and keys that were deleted may be back. ETags and "
        "cursors of DIR mean nothing to OUT: clients have to read anew.\n\n"
        "Exit status: 0 nothing is lost, 1 something is, or OUT could not be made, 2 called "
        "wrongly.",
    .operands_min = 2,
    .operands_max = 2,
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

static void print_finding(void *arg, enum salvage_kind kind, const struct check_finding *finding)
{
    static const char *const words[] = {
        [SALVAGE_NOTE] = "note",
        [SALVAGE_LOST] = "lost",
        [SALVAGE_OLDER] = "older",
    };

    (void)arg;
    finding_print(words[kind], finding);
}

static void print_losses(const struct arguments *arguments, const struct salvage_summary *summary)
{
    if (summary->places == 0 && summary->older == 0) {
        fputs("; nothing is lost", stdout);
        return;
    }
    fputs("; lost: ", stdout);
    if (summary->more_lost)
        fputs(summary->lost_records > 0 ? "more than " : "an unknown number of records", stdout);
    else
        fputs("up to ", stdout);
    if (summary->lost_records > 0 || !summary->more_lost)
        finding_print_count(summary->lost_records, "record");
    fputs(" in ", stdout);
    finding_print_count(summary->places, "place");
    if (summary->older > 0) {
        fputs(", and perhaps the newest value of ", stdout);
        finding_print_count(summary->older, "key");
        fputs(arguments->older ? " (an older one is copied)" : " (left out)", stdout);
    }
}

static void print_summary(const struct arguments *arguments, const char *to,
                          const struct salvage_summary *summary)
{
    printf("%s: ", to);
    finding_print_count(summary->keys, "key");
    fputs(" in ", stdout);
    finding_print_count(summary->bytes, "byte");
    fputs(", copied from ", stdout);
    finding_print_count(summary->tables, "table");
    fputs(" and ", stdout);
    finding_print_count(summary->segments, "log segment");
    print_losses(arguments, summary);
    putchar('\n');
}

/* Whether `to`, or where it is to be made, lies in `from`: nothing is ever written there. */
static bool lies_in(const char *to, const char *from)
{
    char *above = strdup(to);
    char *real_from = realpath(from, NULL);
    char *real_to = realpath(to, NULL);
    bool inside = false;

    if (!real_to && above) {
        for (size_t n = strlen(above); n > 1 && above[n - 1] == '/'; n--)
            above[n - 1] = '\0';
        char *slash = strrchr(above, '/');
        if (slash)
            slash[slash == above] = '\0';
        real_to = realpath(slash ? above : ".", NULL);
    }
    if (real_from && real_to) {
        size_t n = strlen(real_from);
        inside = strncmp(real_to, real_from, n) == 0 && (real_to[n] == '/' || real_to[n] == '\0');
    }
    free(above);
    free(real_from);
    free(real_to);
    return inside;
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct salvage_summary summary;
    struct err_detail why = {""};
    struct operands operands;
    int status;

    if (!command_parse(&command_salvage, argc, argv, &arguments, &operands, &status))
        return status;
    const char *from = operands.items[0];
    const char *to = operands.items[1];
    if (lies_in(to, from)) {
        fprintf(stderr, "varve salvage: %s lies in %s, where nothing is written\n", to, from);
        return STATUS_USAGE;
    }
    struct salvage_options what = {.from = from, .to = to, .older = arguments.older};
    enum err err = salvage_dir(vfs_posix(), &what, print_finding, NULL, &summary, &why);
    if (err != ERR_OK) {
        (void)fflush(stdout);
        fprintf(stderr, "varve salvage: %s\n", why.text[0] != '\0' ? why.text : err_text(err));
        return STATUS_FAILED;
    }
    print_summary(&arguments, to, &summary);
    return summary.places == 0 && summary.older == 0 ? STATUS_OK : STATUS_FAILED;
}

const struct command command_salvage = {.options = &options, .run = run};
