octavo-render --model no-such-folder --prompt x --out images
status=$?
ls
exit $status
