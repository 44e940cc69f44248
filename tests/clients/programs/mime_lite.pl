# mime_lite.pl DIRECTORY FROM TO [CC BCC]: by sendmail, as it does by itself.
use strict;
use warnings;
use MIME::Lite;

my ($directory, $from, $to, $cc, $bcc) = @ARGV;
open(my $file, '<:raw', "$directory/text") or die "text: $!";
my $text = do { local $/; <$file> };
my $mail = MIME::Lite->new(
	From => $from, To => $to, $cc ? (Cc => $cc, Bcc => $bcc) : (),
	Subject => $ENV{SUBJECT}, Type => 'multipart/mixed');
$mail->attach(Type => 'text/plain; charset=utf-8', Encoding => '8bit',
	Data => $text);
if (-e "$directory/blob.bin") {
	$mail->attach(Type => 'application/octet-stream', Encoding => 'base64',
		Path => "$directory/blob.bin", Filename => 'blob.bin',
		Disposition => 'attachment');
}
$mail->send or die 'send';
