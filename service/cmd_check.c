/* cmd_check.c - `varve check DIR`: reads every byte of a data directory and says what is wrong. */
#include <inttypes.h>
#include <stdio.h>

#include "service/command.h"
#include "service/finding.h"
#include "store/lsm/check.h"

struct arguments {
    bool quiet;
};

static const struct option_spec specs[] = {
    {
        .name = "quiet",
        .group = "Output",
        .kind = OPTION_FLAG,
        .offset = OPTION_MEMBER(struct arguments, quiet, bool),
        .text = "Print damage only: no notes and no summary.",
    },
};

static const struct option_table options = {
    .command = "check",
    .summary = "Verify every checksum and invariant of a data directory.",
    .operands = "DIR",
    .details =
        "Reads all of the directory and changes nothing; no server may have it open. Prints a "
        "line for each finding: the file, the offset there, and the keys that may be affected. "
        "Damage is what no version of varve wrote like this. A note is nothing to act on, such as "
        "the torn end of writes that were never acknowledged. `varve salvage` copies what is "
        "intact.\n\n"
        "Exit status: 0 there is no damage, 1 there is, or the directory can't be read, 2 called "
        "wrongly.",
    .operands_min = 1,
    .operands_max = 1,
    .specs = specs,
    .count = sizeof(specs) / sizeof(specs[0]),
};

static void print_finding(void *arg, const struct check_finding *finding)
{
    const struct arguments *arguments = arg;

    if (arguments->quiet && !finding->problem)
        return;
    finding_print(finding->problem ? "damage" : "note", finding);
}

static void print_summary(const char *path, const struct check_summary *summary)
{
    printf("%s: ", path);
    finding_print_count(summary->tables, "table");
    fputs(" with ", stdout);
    finding_print_count(summary->table_records, "record");
    fputs(" in ", stdout);
    finding_print_count(summary->bytes, "byte");
    fputs(", ", stdout);
    finding_print_count(summary->segments, "log segment");
    fputs(" with ", stdout);
    finding_print_count(summary->log_records, "record");
    printf(", newest number %" PRIu64 "; ", summary->last_seq);
    if (summary->problems == 0)
        fputs("no damage", stdout);
    else
        finding_print_count(summary->problems, "damaged place");
    if (summary->notes > 0) {
        fputs(", ", stdout);
        finding_print_count(summary->notes, "note");
    }
    putchar('\n');
}

static int run(int argc, char *const argv[])
{
    struct arguments arguments = {0};
    struct check_summary summary;
    struct err_detail why = {""};
    struct operands operands;
    int status;

    if (!command_parse(&command_check, argc, argv, &arguments, &operands, &status))
        return status;
    enum err err =
        check_dir(vfs_posix(), operands.items[0], print_finding, &arguments, &summary, &why);
    if (err != ERR_OK) {
        fprintf(stderr, "varve check: %s\n", why.text[0] != '\0' ? why.text : err_text(err));
        return STATUS_FAILED;
    }
    if (!arguments.quiet)
        print_summary(operands.items[0], &summary);
    return summary.problems == 0 ? STATUS_OK : STATUS_FAILED;
}

const struct command command_check = {.options = &options, .run = run};
