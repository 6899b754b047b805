#include "service/finding.h"

#include <inttypes.h>
#include <stdio.h>

#include "service/printable.h"

/* A range that ends with the first key above its first one is of one key. */
static bool is_one_key(const struct check_finding *finding)
{
    const uint8_t *end = finding->end_key.data;
    size_t size = finding->first_key.size;

    return size > 0 && finding->end_key.size == size + 1 && end[size] == 0 &&
           bytes_equal(finding->first_key, bytes_of(end, size));
}

static void print_range(const struct check_finding *finding)
{
    if (is_one_key(finding)) {
        fputs(", key ", stdout);
        printable_write(finding->first_key, stdout);
        return;
    }
    fputs(", keys from ", stdout);
    if (finding->first_key.size > 0)
        printable_write(finding->first_key, stdout);
    else
        fputs("the first", stdout);
    if (finding->end_key.size > 0) {
        fputs(" up to but without ", stdout);
        printable_write(finding->end_key, stdout);
    } else {
        fputs(" to the last", stdout);
    }
}

static void print_writes(const struct check_finding *finding)
{
    printf(", write%s %" PRIu64, finding->first_seq == finding->last_seq ? "" : "s",
           finding->first_seq);
    if (finding->last_seq > finding->first_seq)
        printf(" to %" PRIu64, finding->last_seq);
}

static void print_read_keys(const struct check_finding *finding)
{
    for (size_t i = 0; i < finding->n_keys; i++) {
        fputs(i > 0 ? ", " : finding->n_keys == 1 ? ", key reads " : ", keys read ", stdout);
        printable_write(bytes_of(finding->keys[i].data, finding->keys[i].size), stdout);
    }
}

void finding_print(const char *word, const struct check_finding *finding)
{
    printf("%s: %s", word, finding->file);
    if (finding->problem || finding->offset > 0)
        printf(", offset %" PRIu64, finding->offset);
    if (finding->has_keys)
        print_range(finding);
    if (finding->first_seq > 0)
        print_writes(finding);
    print_read_keys(finding);
    printf(": %s\n", finding->text);
}

void finding_print_count(uint64_t n, const char *word)
{
    printf("%" PRIu64 " %s%s", n, word, n == 1 ? "" : "s");
}
