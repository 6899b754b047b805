#include "service/printable.h"

void printable_write(struct bytes bytes, FILE *out)
{
    const unsigned char *at = bytes.data;

    (void)fputc('"', out);
    for (size_t i = 0; i < bytes.size; i++) {
        if (at[i] < 0x20 || at[i] > 0x7e) {
            fprintf(out, "\\x%02x", at[i]);
            continue;
        }
        if (at[i] == '"' || at[i] == '\\')
            (void)fputc('\\', out);
        (void)fputc(at[i], out);
    }
    (void)fputc('"', out);
}
