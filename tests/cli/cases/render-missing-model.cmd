octavo-render --device cpu --model no-such-folder --prompt x --out images
status=$?
ls
exit $status
