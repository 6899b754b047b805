/* main.c - the program `varve`: picks a command by its name and returns its exit status. */
#include <stdio.h>

int main(void)
{
    fputs("varve: no command given\n", stderr);
    return 2;
}
