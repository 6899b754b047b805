/* linear_report.c - each operation with its moments, what was asked and what was answered. */
#include "tests/support/linear_report.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_request(FILE *into, const struct linear_step *step)
{
    switch (step->effect) {
    case LINEAR_READ:
        fprintf(into, "get k%u", step->key);
        break;
    case LINEAR_PUT:
        fprintf(into, "put k%u = v%" PRIu32, step->key, step->value);
        break;
    case LINEAR_DELETE:
        fprintf(into, "delete k%u", step->key);
        break;
    }
    switch (step->condition) {
    case LINEAR_ALWAYS:
        break;
    case LINEAR_IF_ABSENT:
        fputs(" if absent", into);
        break;
    case LINEAR_IF_PRESENT:
        fputs(" if present", into);
        break;
    case LINEAR_IF_MATCH:
        fprintf(into, " if tag %" PRIx64, step->tag);
        break;
    }
}

static void print_answer(FILE *into, const struct linear_step *step)
{
    switch (step->met) {
    case LINEAR_NOT_TOLD:
        break;
    case LINEAR_ABSENT:
        fputs(", was absent", into);
        break;
    case LINEAR_PRESENT:
        fputs(", was ", into);
        if (step->met_value != 0) {
            fprintf(into, "v%" PRIu32, step->met_value);
        } else {
            fputs("there", into);
        }
        if (step->met_tag != 0) {
            fprintf(into, " with tag %" PRIx64, step->met_tag);
        }
        break;
    }
    if (step->made_tag != 0) {
        fprintf(into, ", got tag %" PRIx64, step->made_tag);
    }
}

static void print_op(FILE *into, const struct linear_op *op)
{
    char end[24] = "";
    if (op->end != LINEAR_NEVER) {
        (void)snprintf(end, sizeof end, "%" PRIu64, op->end);
    }
    fprintf(into, "  %5" PRIu64 "..%-5s client %-2u ", op->call, end, op->client);
    for (size_t i = 0; i < op->n_steps; i++) {
        fputs(i > 0 ? "; " : "", into);
        print_request(into, &op->steps[i]);
        print_answer(into, &op->steps[i]);
        if (op->outcome == LINEAR_FAILED && i == op->failed) {
            fputs(": refused", into);
        }
    }
    if (op->outcome == LINEAR_MAYBE) {
        fputs(": no answer", into);
    }
}

char *linear_report(const struct linear_op *ops, size_t n_ops, const struct linear_fault *fault)
{
    char *text = NULL;
    size_t size;
    FILE *into = open_memstream(&text, &size);
    if (into == NULL) {
        abort();
    }
    fputs("  call..end\n", into);
    for (size_t i = 0; i < n_ops; i++) {
        print_op(into, &ops[i]);
        if (i == fault->op) {
            fputs(fault->other == SIZE_MAX ? "   <== no order explains this"
                                           : "   <== contradicts the other that is marked",
                  into);
        } else if (i == fault->other) {
            fputs("   <==", into);
        }
        fputs("\n", into);
    }
    if (fault->op == SIZE_MAX) {
        fputs("  gave up: too many orders to look at\n", into);
    }
    if (fclose(into) != 0) {
        abort();
    }
    return text;
}
